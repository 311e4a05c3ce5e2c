"""Experiments: their reports, what they refuse, and short runs on real data."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from rich.console import Console

from convscope.cli.job_progress import JobDisplay
from convscope.cli.main import group
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.experiments import EXPERIMENTS, Report, Row, Setting, run_experiment
from convscope.experiments.base import command, markdown, settings
from convscope.experiments.relu_against_sigmoid import _ErrorCurve, _Reached
from convscope.experiments.slides_cifar10 import SLIDES
from convscope.tasks.stages.events import (
    JobEvent,
    JobInterrupted,
    JobStarted,
    StageFinished,
    StageLoaded,
    StageProgress,
    StageRedone,
    StageStarted,
    StageTold,
)  # fmt: skip
from convscope.training.events import BatchDone, RunStarted, to_json

DATA = os.environ.get("CONVSCOPE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="CONVSCOPE_DATA is not set: no real data")


def batch(step: int, batch: int, images: int, accuracy: float) -> BatchDone:
    return BatchDone(
        epoch=1, batch=batch, batches=400, step=step, examples=images, figures={"loss": 1.0, "accuracy": accuracy},
        unit="images", per_second=1.0, learning_rate=0.1,
    )  # fmt: skip


def started(resumed_at: int) -> RunStarted:
    return RunStarted(
        run_dir=Path("run"), task="classification", model="m", data="d", parameters=1, train_examples=1,
        test_examples=1, noun="pictures", unit="images", shares=("accuracy",), epochs=2, steps=800, engine="torch",
        device="cpu", reason="", processes=1, resumed_at=resumed_at,
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
    with pytest.raises(ArgumentError, match="folder: got .*wanted a folder that can be written"):
        run_experiment("slides_cifar10", Setting(out=tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("name", ["run_dir", "resume", "seed", "engine", "threads"])
def test_what_the_setting_itself_decides_cannot_be_changed_in_the_recipe(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"change: got '{name}'"):
        Setting(out=tmp_path, changes={name: 1})


def test_the_way_to_go_on_says_all_that_the_setting_says(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "a b", "/data", 3, "torch", {"epochs": 2, "augment": "flip", "learning_rates": {}}, 2)
    typed = command("lenet5_mnist", setting)
    assert typed == (
        f"convscope experiment lenet5_mnist --out '{tmp_path}/a b' --root /data --seed 3 --engine torch --threads 2 "
        "--set epochs=2 --set augment=flip --set 'learning_rates={}'"
    )
    assert command("x", Setting(Path("out"))) == "convscope experiment x --out out"


def test_changes_override_the_recipe_and_are_reported(tmp_path: Path) -> None:
    setting = Setting(out=tmp_path, changes={"epochs": 1}, seed=5)
    merged = settings({"epochs": 40, "learning_rate": 0.1}, setting)
    assert merged["epochs"] == 1
    assert merged["learning_rate"] == 0.1
    assert merged["seed"] == 5
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
    for step in range(1, 100 + 294):
        # 100 pictures a step, all wrong in the first 100 steps, all right afterwards
        curve(batch(step, step, 100 * step, max(0, step - 100) / step))
    with pytest.raises(_Reached):
        curve(batch(394, 394, 39400, 294 / 394))
    # the last 391 steps hold at most a quarter of wrong ones once 294 of them are right
    assert curve.reached == 100 + 294
    assert min(curve.errors) >= 0


def test_the_error_curve_goes_on_from_its_log(tmp_path: Path) -> None:
    """Two epochs; killed after step 470 with a checkpoint of step 430, in the middle of the second epoch."""

    def feed(curve: _ErrorCurve, first: int, last: int) -> None:
        for step in range(first, last + 1):
            place = step if step <= 400 else step - 400
            right = max(0, place - 300) if step <= 400 else place
            curve(batch(step, place, 100 * place, right / place))

    whole = _ErrorCurve(tmp_path / "whole")
    with pytest.raises(_Reached):
        feed(whole, 1, 800)
    killed = _ErrorCurve(tmp_path / "killed")
    feed(killed, 1, 470)
    resumed = _ErrorCurve(tmp_path / "killed")
    resumed(started(430))
    with pytest.raises(_Reached):
        feed(resumed, 431, 800)
    assert (resumed.steps, resumed.errors, resumed.reached) == (whole.steps, whole.errors, whole.reached)
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    again = _ErrorCurve(tmp_path / "whole")
    with pytest.raises(_Reached):
        again(started(int(whole.reached or 0)))
    assert (again.steps, again.errors, again.reached) == (whole.steps, whole.errors, whole.reached)
    with pytest.raises(CheckpointError, match="it lacks steps that the run has done"):
        _ErrorCurve(tmp_path / "killed")(started(5000))


def test_the_command_lists_and_refuses() -> None:
    listed = CliRunner().invoke(group, ["experiment"])
    assert listed.exit_code == 0
    for name in EXPERIMENTS:
        assert name in listed.output
    refused = CliRunner().invoke(group, ["experiment", "lenet5_mnst"])
    assert refused.exit_code == 2
    assert "Did you mean 'lenet5_mnist'" in refused.output + refused.stderr


#: The others train for tens of seconds even in eight steps: several trainings, or large pictures.
AT_ONCE = ("lenet5_mnist", "slides_cifar10")


def fewer_blood_cells(folder: Path) -> Path:
    """A folder of data sets with the first 24 and 6 pictures of BCCD: selective search takes a second a picture."""
    assert DATA is not None
    cells = folder / "bccd"
    (cells / "ImageSets" / "Main").mkdir(parents=True)
    for shared in ("Annotations", "JPEGImages"):
        (cells / shared).symlink_to(Path(DATA) / "bccd" / shared)
    for part, count in (("trainval", 24), ("test", 6)):
        named = (Path(DATA) / "bccd" / "ImageSets" / "Main" / f"{part}.txt").read_text(encoding="utf-8").split()
        (cells / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(named[:count]) + "\n", encoding="utf-8")
    return folder


@needs_data
@pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.long) for name in sorted(EXPERIMENTS)]
)
def test_every_experiment_runs_on_real_data(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    arguments = ["experiment", name, "--out", str(out), "--workers", "1", "--quiet"]
    for change in ("epochs=1", "max_steps=8", "watch=false"):
        arguments += ["--set", change]
    root = str(fewer_blood_cells(tmp_path / "data") if name == "rcnn_family" else DATA)
    ran = CliRunner().invoke(group, [*arguments, "--root", root])
    assert ran.exit_code == 0, ran.output + ran.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["changes"]["max_steps"] == 8
    assert report["rows"]
    for picture in report["pictures"]:
        assert (out / picture).stat().st_size > 1000
    assert "Changed by hand" in ran.output
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    again = CliRunner().invoke(group, [*arguments, "--root", root])
    assert (again.exit_code, again.output) == (0, ran.output)
    assert written == {path: path.stat().st_mtime_ns for path in written}, "called again it only reads"
    other = CliRunner().invoke(group, [*arguments[:-1], "watch=true", "--root", root])
    assert other.exit_code == 2
    assert "watch: false in the folder, true now" in " ".join((other.output + other.stderr).split())


@needs_data
def test_an_interrupted_experiment_goes_on(tmp_path: Path) -> None:
    changes = {"epochs": 1, "max_steps": 8, "watch": False}
    seen: list[JobEvent] = []

    def stop(event: JobEvent) -> None:
        seen.append(event)
        if isinstance(event, StageTold) and event.stage.startswith("2-") and event.event["event"] == "BatchDone":
            raise KeyboardInterrupt

    wholly, partly = (Setting(tmp_path / name, root=DATA, changes=changes) for name in ("whole", "part"))
    whole = run_experiment("lenet5_mnist", wholly, workers=1)
    with pytest.raises(KeyboardInterrupt, match="to go on: convscope experiment lenet5_mnist --out .*max_steps=8"):
        run_experiment("lenet5_mnist", partly, workers=1, listeners=[stop])
    assert not (tmp_path / "part" / "report.json").exists()
    report = run_experiment("lenet5_mnist", partly, workers=1, listeners=[seen.append])
    assert report == whole
    begun = [event.stage[0] for event in seen if isinstance(event, StageStarted)]
    assert begun == ["1", "2", "2", "3", "4"]
    (tmp_path / "part" / "report.json").unlink()
    assert run_experiment("lenet5_mnist", partly, workers=1) == whole, "the report alone is written again"


class TestTheDisplay:
    """What a person reads while a job goes on."""

    def shown(self, *told: JobEvent, quiet: bool = False, terminal: bool = False) -> str:
        output = io.StringIO()
        console = Console(file=output, width=200, force_terminal=terminal, color_system=None)
        with JobDisplay(console, quiet) as display:
            for event in told:
                display(event)
        return output.getvalue()

    run: ClassVar[dict[str, Any]] = to_json(started(0))
    step: ClassVar[dict[str, Any]] = to_json(batch(400, 400, 400, 0.5))
    events: ClassVar[list[JobEvent]] = [
        JobStarted(Path("out"), ("a", "b", "c"), 2, "2 processors"), StageLoaded("a"), StageRedone("b", "asked for"),
        StageStarted("b", False, 7), StageTold("b", run), StageTold("b", step), StageProgress("b", 0.5, "half"),
        StageTold("b", {"event": "EpochDone", "epoch": 1, "train_loss": 0.25, "test_loss": 0.5, "test_accuracy": 0.75,
                        "seconds": 2.0}),
        StageFinished("b", 3.0),
    ]  # fmt: skip

    def test_lines(self) -> None:
        text = self.shown(*self.events)
        for line in (
            "3 stages in out, up to 2 side by side (2 processors)", "1 of 3 stages were done before", "b begins",
            "b: m on d, engine torch", "b: epoch   1/2  loss 0.2500  test loss 0.5000  test accuracy 75.00%  2.0 s",
            "b done in 3.0 s (2/3)", "b is made anew: asked for",
        ):  # fmt: skip
            assert line in text

    def test_quiet_keeps_warnings(self) -> None:
        end = JobInterrupted("SIGINT", ("c",), "call again")
        assert self.shown(*self.events, end, quiet=True).splitlines() == [
            "b is made anew: asked for", "interrupted; to go on: call again",
        ]  # fmt: skip

    def test_bars_at_a_terminal(self) -> None:
        assert "epoch 1/2  loss 1.0000" in self.shown(*self.events[:6], terminal=True)
