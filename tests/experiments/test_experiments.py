"""Experiments: their reports, what they refuse, and short runs on real data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from convscope.cli.main import group
from convscope.errors import ArgumentError, UnknownNameError
from convscope.experiments import EXPERIMENTS, Report, Row, Setting, run_experiment
from convscope.experiments.base import markdown, settings
from convscope.experiments.relu_against_sigmoid import _ErrorCurve
from convscope.experiments.slides_cifar10 import SLIDES
from convscope.training.events import BatchDone

DATA = os.environ.get("CONVSCOPE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="CONVSCOPE_DATA is not set: no real data")


def batch(step: int, batch: int, images: int, accuracy: float) -> BatchDone:
    return BatchDone(
        epoch=1, batch=batch, batches=400, step=step, examples=images, figures={"loss": 1.0, "accuracy": accuracy},
        unit="images", per_second=1.0, learning_rate=0.1,
    )  # fmt: skip


def test_the_slides_figures_average_to_what_the_slides_print() -> None:
    # 66.36; the slides and everybody after them cut it to 66.3
    assert sum(SLIDES.values()) / len(SLIDES) == pytest.approx(66.36, abs=1e-9)


def test_an_unknown_experiment_is_refused_with_the_close_match(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'lenet5_mnist'"):
        run_experiment("lenet_mnist", Setting(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArgumentError, match="out: got .*wanted a folder that can be written"):
        run_experiment("slides_cifar10", Setting(out=tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("name", ["run_dir", "seed", "engine"])
def test_what_the_setting_itself_decides_cannot_be_changed_in_the_recipe(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"change: got '{name}'"):
        settings({"epochs": 3}, Setting(out=tmp_path, changes={name: 1}), "run")


def test_changes_override_the_recipe_and_are_reported(tmp_path: Path) -> None:
    setting = Setting(out=tmp_path, changes={"epochs": 1}, seed=5)
    merged = settings({"epochs": 40, "learning_rate": 0.1}, setting, "run")
    assert merged["epochs"] == 1
    assert merged["learning_rate"] == 0.1
    assert merged["seed"] == 5
    assert merged["run_dir"] == str(tmp_path / "run")
    report = Report([Row("test error", 0.66, 0.95, "%"), Row("speed", 3.0, None, "times")], ["a.png"], {"epochs": 40})
    page = markdown(EXPERIMENTS["lenet5_mnist"], report, setting)
    assert "| test error | 0.66 % | 0.95 % |" in page
    assert "| speed | 3 times | – |" in page
    assert "Changed by hand: epochs 1" in page
    assert "![a.png](a.png)" in page


def test_several_recipes_are_listed_by_name(tmp_path: Path) -> None:
    report = Report([], [], {"first": {"epochs": 4, "seed": 1}, "second": {"epochs": 5}})
    page = markdown(EXPERIMENTS["lenet5_mnist"], report, Setting(out=tmp_path))
    assert "\n- first: epochs 4, seed 1\n- second: epochs 5\n" in page
    assert "{" not in page


def test_the_error_curve_counts_steps_until_the_level() -> None:
    curve = _ErrorCurve()
    for step in range(1, 500):
        # 100 pictures a step, all wrong in the first 100 steps, all right afterwards
        right = max(0, step - 100)
        curve(batch(step, step, 100 * step, right / step))
    # the last 391 steps hold at most a quarter of wrong ones once 294 of them are right
    assert curve.reached == 100 + 294
    assert min(curve.errors) >= 0


def test_the_command_lists_and_refuses() -> None:
    listed = CliRunner().invoke(group, ["experiment"])
    assert listed.exit_code == 0
    for name in EXPERIMENTS:
        assert name in listed.output
    refused = CliRunner().invoke(group, ["experiment", "lenet5_mnst"])
    assert refused.exit_code == 2
    assert "Did you mean 'lenet5_mnist'?" in refused.output + refused.stderr


#: The others train for tens of seconds even in eight steps: several trainings, or large pictures.
AT_ONCE = ("lenet5_mnist", "slides_cifar10")


@needs_data
@pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.long) for name in sorted(EXPERIMENTS)]
)
def test_every_experiment_runs_on_real_data(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    arguments = ["experiment", name, "--out", str(out), "--quiet"]
    for change in ("epochs=1", "max_steps=8", "watch=false"):
        arguments += ["--set", change]
    ran = CliRunner().invoke(group, [*arguments, "--root", str(DATA)])
    assert ran.exit_code == 0, ran.output + ran.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["changes"]["max_steps"] == 8
    assert report["rows"]
    for picture in report["pictures"]:
        assert (out / picture).stat().st_size > 1000
    assert "Changed by hand" in ran.output
