"""A job of six small stages that tests kill, and the functions by whose name workers find it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.data import Dataset, load_dataset
from convscope.errors import DataError
from convscope.tasks.stages import Here, Job, Outcome, Stage, training

OPTIONS: dict[str, Any] = {
    "epochs": 2, "max_steps": 7, "batch_size": 17, "checkpoint_batches": 2, "watch": False, "engine": "torch",
    "schedule": "constant", "augment": "translate:1",
}  # fmt: skip


def few(start: int) -> Dataset:
    """60 training and 30 test digits; another ``start``, others."""
    data = load_dataset("digits")
    chosen = torch.arange(start, start + 60)
    return Dataset("digits", data.train.select(chosen), data.test.select(torch.arange(30)))


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)
    )


def scores(outcome: Outcome, images: torch.Tensor) -> Mapping[str, Any]:
    return {"scores": outcome.model()(images)}


def digits(seed: int = 0, learning_rate: float = 0.01, threads: int | None = 1) -> list[Stage]:
    """Two trainings, features of the first, a training that begins with its weights, a committee of all, by parts."""

    def features(here: Here) -> Mapping[str, Any]:
        model = here.earlier["first"].model()
        images = few(0).test.images.float() / 255
        here.tell(0.5, "half")
        with torch.no_grad():
            outputs = model(images)
        return {"outputs": outputs, "chance": torch.rand(3), "shape": tuple(outputs.shape), "rate": learning_rate}

    def further(earlier: Mapping[str, Outcome]) -> nn.Module:
        assert earlier["features"]["shape"] == [30, 10]
        return earlier["first"].model()

    def committee(here: Here) -> Mapping[str, Any]:
        images = few(0).test.images.float() / 255
        names = list(here.earlier)
        with torch.no_grad():
            found = [here.part(name, partial(scores, here.earlier[name], images))["scores"] for name in names]
        return {"members": names, "mean": torch.stack(found).mean(0), "error": 0.1 + 0.2}

    def both(here: Here) -> Mapping[str, Any]:
        return {"accuracy": here.fit(small(seed + 1), few(60), seed=seed, **OPTIONS).metrics["accuracy"]}

    return [
        training(
            "first", lambda _: small(seed), lambda _: few(0), threads=threads, seed=seed, learning_rate=learning_rate,
            described={"model": "small", "data": "digits, the first 60"}, **OPTIONS,
        ),
        Stage("deep/second", both, {"seed": seed, **OPTIONS}, threads=threads),
        Stage("features", features, {"learning_rate": learning_rate}, after=["first"], threads=threads),
        training(
            "further", further, lambda _: few(60), after=["first", "features"], threads=threads, seed=seed,
            described={"model": "first's", "data": "digits, the next 60"}, **OPTIONS,
        ),
        Stage("committee", committee, {}, after=["first", "deep/second", "further"], threads=threads),
    ]  # fmt: skip


def job(**arguments: Any) -> Job:
    return Job.of(digits, **arguments)


def one_bad(text: str, own: bool) -> list[Stage]:
    """Two side by side: one trains for minutes, the other fails when that has begun."""

    def fail(here: Here) -> None:
        while not (here.folder.parent / "training" / "checkpoints").is_dir():
            time.sleep(0.01)
        raise DataError("somewhere", text) if own else LookupError(text)

    return [*slow(["training"]), Stage("bad", fail, {}, threads=1)]


def slow(names: list[str]) -> list[Stage]:
    """Of "training" and "computing", which take some minutes."""

    def wait(here: Here) -> None:
        for _ in range(60_000):
            time.sleep(0.005)

    options = {**OPTIONS, "max_steps": None, "epochs": 100_000}
    said = {"model": "small", "data": "60"}
    stages = [
        training("training", lambda _: small(1), lambda _: few(0), threads=1, described=said, **options),
        Stage("computing", wait, {}, threads=1),
    ]
    return [stage for stage in stages if stage.name in names]


def dies(number: int) -> list[Stage]:
    """The second stage's process kills itself."""

    def die(here: Here) -> None:
        print("on my way out", flush=True)
        os.kill(os.getpid(), number)

    return [Stage("well", lambda here: {"fine": True}, {}, threads=1), Stage("ill", die, {}, threads=1)]


def result(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors that the stages below ``folder`` came to, and their JSON values as a text's bytes."""
    from convscope.tasks.stages.folder import read_result, split_values
    from convscope.tensorfile import read_tensors

    found: dict[str, torch.Tensor] = {}
    for record in sorted(folder.rglob("stage.json")):
        name = record.parent.relative_to(folder).as_posix()
        tensors, plain = split_values(read_result(record.parent))
        found |= {f"{name}:{key}": value for key, value in tensors.items()}
        found[f"{name}:json"] = torch.tensor([*repr(sorted(plain.items())).encode()])
        if (record.parent / "model.safetensors").is_file():
            weights = read_tensors(record.parent / "model.safetensors")[0]
            found |= {f"{name}/{key}": value for key, value in weights.items()}
            metrics = (record.parent / "metrics.json").read_bytes()
            rows = (record.parent / "history.csv").read_text().splitlines()
            found[f"{name}:metrics"] = torch.tensor([*metrics])
            found[f"{name}:history"] = torch.tensor([*"".join(_without_times(rows)).encode()])
    return found


def _without_times(rows: list[str]) -> list[str]:
    names = rows[0].split(",")
    timed = {names.index(name) for name in ("seconds", "images_per_second")}
    return [",".join(cell for place, cell in enumerate(row.split(",")) if place not in timed) for row in rows]


def differing(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    """The names whose bits differ."""
    names = first.keys() | second.keys()
    return sorted(
        name for name in names if name not in first or name not in second or not torch.equal(first[name], second[name])
    )
