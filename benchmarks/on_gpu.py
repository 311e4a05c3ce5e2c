"""Training on a GPU: first every path of the stepper is checked, then it is timed beside plain torch.

    python benchmarks/on_gpu.py [--quick] [--json out.json]

Checked: float32, bfloat16, compiled, the whole step as one CUDA graph, with full and ragged batches, for a classifier
and for a task with two inputs whose batches weigh differently; each against the same run on the CPU in float64. Timed:
epochs of ``fit`` (its history tells the pictures a second) against the loop that one writes by hand, eager and
compiled, on data that lie on the GPU for both. ``--quick`` leaves compilation out. On a computer without a GPU the
checks run on the CPU and nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope import fit
from convscope.data import Dataset, Labelled
from convscope.models import create_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tasks.measuring import Measuring, Net, dataset

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"


def noise(count: int, shape: tuple[int, int, int], classes: int = 10) -> Dataset:
    """Pictures of noise, brighter by class, so that there is something to learn."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=chance)
    images = torch.randint(0, 200, (count, *shape), generator=chance, dtype=torch.uint8) + (5 * labels).to(
        torch.uint8
    ).view(-1, 1, 1, 1)
    names = tuple(map(str, range(classes)))
    cut = max(count // 10, 1)
    return Dataset("noise", Labelled(images[cut:], labels[cut:], names), Labelled(images[:cut], labels[:cut], names))


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight, as a share of how far that tensor's weights lie from zero at most."""
    return max(
        float((found[name].cpu().double() - each.cpu().double()).abs().max() / each.abs().max().clamp(min=1e-9))
        for name, each in wanted.items()
        if each.is_floating_point()
    )


def check(paths: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Largest difference from the CPU in float64 after two epochs with ragged last batches, for every path and task."""

    def classifier(**options: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = create_model("lenet5", activation="tanh", pool="mean")  # smooth: rounding does not flip a unit
        return run(model, noise(500, (1, 28, 28)), **options)

    def measuring(**options: Any) -> dict[str, torch.Tensor]:
        model = Net()
        model.drop.p = 0.0
        return run(model, dataset(), task=Measuring(), **{**options, "batch_size": 16})

    def run(model: nn.Module, data: Any, **options: Any) -> dict[str, torch.Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"epochs": 3, "batch_size": 64, "optimiser": "sgd", "learning_rate": 0.02, "watch": False}
            result = fit(model, data, run_dir=f"{folder}/run", **{**settings, **options})
        if "known" in result.history[0].train:  # sums over batches of unlike weight
            assert abs(result.history[0].train["known"] - dataset().train.weight(torch.arange(47)) / 47) < 1e-9
        return {name: each.detach().clone() for name, each in result.model.state_dict().items()}

    found: dict[str, float] = {}
    for task, train in (("classification", classifier), ("two inputs", measuring)):
        exact = train(device="cpu", precision="float64", engine="torch")
        for path, options in paths.items():
            found[f"{task}, {path}"] = relative(train(device=DEVICE, engine="torch", **options), exact)
    return found


def by_hand(model: nn.Module, data: Dataset, batch: int, compiled: bool, seconds: float) -> float:
    """Pictures a second of the loop that one writes by hand, in bfloat16 and channels-last, data on the GPU."""
    images, labels = data.train.images.to(DEVICE), data.train.labels.to(DEVICE)
    model = model.to(DEVICE, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    forward = torch.compile(model) if compiled else model

    def epoch() -> int:
        done = 0
        order = torch.randperm(len(images), device=DEVICE)
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            x = (images[chosen].float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(forward(x), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            done += batch
        torch.cuda.synchronize()
        return done

    return speed(epoch, seconds)


def speed(epoch: Callable[[], int], seconds: float) -> float:
    epoch()  # warm-up, compilation
    rates: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(rates) < 3:
        started = time.perf_counter()
        done = epoch()
        rates.append(done / (time.perf_counter() - started))
    return statistics.median(rates)


def ours(model: nn.Module, data: Dataset, batch: int, epochs: int, **options: Any) -> float:
    """Pictures a second of ``fit``, as its history tells: training alone, the median of all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            model, data, run_dir=f"{folder}/run", epochs=epochs, batch_size=batch, optimiser="sgd",
            learning_rate=0.01, watch=False, evaluate_every=epochs, checkpoint_seconds=1e9, **options,
        )  # fmt: skip
    return statistics.median(row.per_second for row in result.history[1:])


def timings(quick: bool) -> list[dict[str, Any]]:
    cases: list[tuple[str, dict[str, Any], tuple[int, int, int], int, int, int]] = [
        ("lenet5", {"activation": "relu", "pool": "max"}, (1, 28, 28), 60_000, 512, 12),
        ("slides_cifar10", {}, (3, 32, 32), 50_000, 512, 8),
        ("resnet18", {"small": True, "classes": 10}, (3, 32, 32), 20_000, 256, 5),
    ]
    rows = []
    for name, options, shape, count, batch, epochs in cases:
        data = noise(count, shape)

        def fresh(name: str = name, options: dict[str, Any] = options) -> nn.Module:
            torch.manual_seed(0)
            return create_model(name, **options)

        row: dict[str, Any] = {"model": name, "batch": batch}
        row["eager"] = by_hand(fresh(), data, batch, False, 4.0)
        row["fit, graph"] = ours(fresh(), data, batch, epochs, compile=None)
        if not quick:
            row["compiled"] = by_hand(fresh(), data, batch, True, 4.0)
            row["fit, compiled and graph"] = ours(fresh(), data, batch, epochs, compile=True)
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    paths: dict[str, dict[str, Any]] = {
        "float32, graph": {"precision": "float32"},
        "float32, eager": {"precision": "float32", "compile": False},
        "bfloat16, graph": {"precision": "bfloat16"},
    }
    if not given.quick:
        paths["float32, compiled"] = {"precision": "float32", "compile": True}
    limits = {"float32": 2e-4, "bfloat16": 5e-2}
    differences = check(paths)
    wrong = [path for path, value in differences.items() if value > limits[path.split(", ")[1]]]
    for path, value in differences.items():
        print(f"{path}: {value:.1e} of the largest weight beside float64 on the CPU")
    if wrong:
        raise SystemExit(f"not the same training: {', '.join(wrong)}")
    found = {"device": torch.cuda.get_device_name() if GPU else platform.processor(), "torch": torch.__version__}
    found |= {"differences": differences, "rows": timings(given.quick) if GPU else []}  # type: ignore[dict-item]
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
