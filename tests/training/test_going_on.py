"""Going on with a run whose folder was damaged, whose checkpoints are gone, or that is to take longer than planned."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError, CheckpointError
from convscope.tasks import fit
from convscope.training import Result, events

Fit = Callable[..., Result]


def test_a_finished_run_without_checkpoints_is_not_begun_anew(fitted: Fit) -> None:
    folder = fitted(epochs=1).run_dir
    shutil.rmtree(folder / "checkpoints")
    (folder / "history.csv").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is left.*or train on from model.safetensors"):
        fitted(epochs=2, resume=True)


def leaps(fitted: Fit, **options: Any) -> list[tuple[int, float, float, int, int]]:
    seen: list[events.Event] = []
    fitted(resume=True, listeners=[seen.append], **options)
    return [
        (each.step, each.before, each.after, each.planned, each.steps)
        for each in seen
        if isinstance(each, events.RateLeaps)
    ]


def test_a_finished_cosine_that_goes_on_says_that_the_rate_leaps(fitted: Fit, tmp_path: Path) -> None:
    """Five batches an epoch: the cosine's last factor is ½(1 + cos 0.9π), and in the middle of ten it is ½."""
    fitted(epochs=1, learning_rate=0.01)
    (leap,) = leaps(fitted, epochs=2, learning_rate=0.01)
    assert (leap[0], *leap[3:]) == (5, 5, 10)
    assert leap[1:3] == pytest.approx((0.01 * 0.5 * (1 + math.cos(0.8 * math.pi)), 0.005))
    assert "RateLeaps" in (tmp_path / "run" / "events.jsonl").read_text()
    assert leaps(fitted, epochs=2) == [], "nothing is left to be done"
    fitted(epochs=1, schedule="constant", run_dir=str(tmp_path / "constant"))
    assert leaps(fitted, epochs=2, schedule="constant", run_dir=str(tmp_path / "constant")) == []


def test_a_run_interrupted_and_resumed_with_its_own_epochs_has_no_leap(
    fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=3, listeners=[interrupt_at(7)])
    assert leaps(fitted, epochs=3) == []


def test_a_run_cannot_end_before_where_it_stands(
    fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=3, listeners=[interrupt_at(7)])
    with pytest.raises(ArgumentError, match="epochs: got 1, wanted at least 2: so many the run has begun"):
        fitted(epochs=1, resume=True)
    assert len(fitted(epochs=2, resume=True).history) == 2
    with pytest.raises(ArgumentError, match="epochs: got 1, wanted at least 2"):
        fitted(epochs=1, resume=True)


CONFIG_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no model": (lambda c: c.pop("model"), "not the configuration of a run"),
    "model a list": (lambda c: c.update(model=[1]), "not the configuration of a run"),
    "data a text": (lambda c: c.update(data="stripes"), "not the configuration of a run"),
    "source a number": (lambda c: c["data"].update(source=5), "not the configuration of a run"),
    "config a list": (lambda c: c.update(config=[]), "not the configuration of a run"),
    "frozen a text": (lambda c: c.update(frozen="0.weight"), "not the configuration of a run"),
    "frozen unknown": (lambda c: c.update(frozen=["9.weight"]), "the model has no parameter '9.weight'"),
    "epochs a text": (lambda c: c["config"].update(epochs="3"), "its configuration is damaged"),
    "an unknown setting": (lambda c: c["config"].update(speed=3), "its configuration is damaged"),
    "a setting of lists": (lambda c: c["config"].update(learning_rates=[1]), "its configuration is damaged"),
    "deviation 0": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(std=[0.0]), "description of the model"),
    "deviation nan": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(std=[math.nan]), "of the model"),
    "mean a text": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(mean=["a"]), "of the model"),
    "mean a number": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(mean=1.0), "of the model"),
    "size a number": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(size=9), "of the model"),
    "size texts": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(size=["9", "7"]), "of the model"),
    "an unknown fit": (lambda c: c["model"]["inputs"][0]["preprocessing"].update(fit="stretch"), "of the model"),
    "inputs a number": (lambda c: c["model"].update(inputs=3), "of the model"),
    "options a list": (lambda c: c["model"].update(options=[3]), "description of the model|cannot be built"),
    "options of nothing": (lambda c: c["model"].update(options={}), "cannot be built here"),
    "architecture a number": (lambda c: c["model"].update(architecture=7), "of the model"),
    "classes numbers": (lambda c: c["model"]["answers"].update(names=[1, 2, 3]), "of the model"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, stripes: Dataset) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(30, 3))
    fit(net, stripes, run_dir=str(run_dir), epochs=1, watch=False, engine="torch")
    return run_dir


@pytest.mark.parametrize("damage", CONFIG_DAMAGE)
def test_a_damaged_configuration_is_named(finished: Path, tmp_path: Path, stripes: Dataset, damage: str) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    content = json.loads((run_dir / "config.json").read_text())
    change, message = CONFIG_DAMAGE[damage]
    change(content)
    (run_dir / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"{run_dir}/config.json: .*{message}"):
        fit(data=stripes, run_dir=str(run_dir), resume=True, epochs=2)
