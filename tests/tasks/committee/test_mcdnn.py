"""A committee trained column by column: what it leaves, how it goes on, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.killing_jobs import contents

import convscope
from convscope.data import Dataset
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.models import spec_of
from convscope.models.committee import Committee
from convscope.tasks.jobs import JOBS, Asked, asked_in, run_training_job, stages_of
from convscope.tasks.stages import StageError, events

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {
    "data": "digits",
    "settings": {"columns": 2, "column": "lenet5", "widths": "0,12", "pictures": False},
    "changes": {"max_steps": 4, "epochs": 1, "watch": False},
    "threads": 1,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "run"
    run_training_job("mcdnn", Asked(**SMALL), folder, workers=1)
    return folder


def test_its_folder_holds_the_committee_and_its_columns(trained: Path) -> None:
    model = convscope.load(trained / "model.safetensors")
    assert isinstance(model, Committee)
    columns = [convscope.load(trained / "columns" / name / "model.safetensors") for name in ("01-original", "02-w12")]
    widths = [spec_of(each).preprocessing.width for each in (*columns, *model.members)]  # type: ignore[union-attr]
    assert widths == [None, 12, None, 12]
    assert not torch.equal(*(each.state_dict()["c1.weight"] for each in columns))
    for own, other in zip(model.members, columns, strict=True):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in own.state_dict().items())
    figures = json.loads((trained / "agreement.json").read_text())
    error = convscope.evaluate(model, "digits").error
    assert figures["together"][-1]["mean"] == pytest.approx(error, abs=0.003)
    assert figures["names"] == ["01-original", "02-w12"]
    assert (trained / "agreement.png").stat().st_size > 2000
    assert "members" in (trained / "agreement.txt").read_text()


def test_called_again_it_only_reads(trained: Path) -> None:
    before = contents(trained / "model.safetensors")
    heard: list[events.JobEvent] = []
    found = asked_in(trained)
    assert found is not None
    assert found[0] == "mcdnn"
    run_training_job(*found, trained, workers=1, listeners=[heard.append])
    assert sum(isinstance(event, events.StageLoaded) for event in heard) == 3
    assert not any(isinstance(event, events.StageStarted) for event in heard)
    assert contents(trained / "model.safetensors") == before


def test_other_settings_are_refused_by_name(trained: Path) -> None:
    with pytest.raises(StageError, match=r"max_steps"):
        run_training_job("mcdnn", Asked(**{**SMALL, "changes": {**SMALL["changes"], "max_steps": 5}}), trained)
    assert asked_in(trained) == ("mcdnn", Asked(**SMALL))


def test_more_columns_go_on_from_those_that_are_there(trained: Path) -> None:
    """The same command with more columns later."""
    names = [stage.name for stage in stages_of("mcdnn", {**SMALL, "settings": {**SMALL["settings"], "columns": 3}})]
    assert names == ["columns/01-original", "columns/02-w12", "columns/03-original", "committee"]
    first, again = (stages_of("mcdnn", {**SMALL, "settings": {**SMALL["settings"], "columns": n}})[1] for n in (2, 3))
    assert first.settings == again.settings


def test_a_column_keeps_its_width_when_it_is_used(trained: Path) -> None:
    model = convscope.load(trained / "columns" / "02-w12" / "model.safetensors")
    data = convscope.load_dataset("digits")
    with pytest.raises(ArgumentError, match="width: got 9, wanted the 12 that the model was trained with"):
        convscope.fit(model, _few(data), settings={"width": 9}, max_steps=1, run_dir=str(trained / "no"))
    answers = {width: _accuracy(model, width) for width in (None, 12)}
    assert answers[12] != answers[None]


def _few(data: Dataset) -> Dataset:
    return Dataset("few", data.train.select(torch.arange(20)), data.test.select(torch.arange(20)))


def _accuracy(model: torch.nn.Module, width: int | None) -> float:
    import dataclasses

    own = spec_of(model)
    assert own is not None
    assert own.preprocessing is not None
    asked = dataclasses.replace(own.preprocessing, width=width)
    return float(convscope.evaluate(model, "digits", preprocessing=asked).loss)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"columns": 0}, "columns: got 0, wanted at least 1"),
        ({"widths": "20,wide"}, "widths: got '20,wide', wanted widths in pixels separated by commas"),
        ({"columns": "many"}, "columns: got 'many', wanted a value like 35"),
        ({"no_such": 1}, "setting of mcdnn: got 'no_such'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        JOBS["mcdnn"](Asked("digits", settings=settings))


def test_what_the_job_decides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="run_dir: got 'x', wanted nothing: the job decides"):
        Asked("digits", changes={"run_dir": "x"})
    with pytest.raises(UnknownNameError, match="training option"):
        Asked("digits", changes={"epoch": 3})
    assert asked_in(tmp_path) is None
    (tmp_path / "job.json").write_text('{"job": "mcdnn"}')
    with pytest.raises(CheckpointError, match="damaged"):
        asked_in(tmp_path)


def test_the_command_line_trains_one_and_makes_one(trained: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from convscope.cli.main import group

    runner = CliRunner()
    files = [str(path) for path in sorted((trained / "columns").glob("*/model.safetensors"))]
    out = tmp_path / "both.safetensors"
    picture = tmp_path / "both.png"
    done = runner.invoke(group, ["committee", *files, "--data", "digits", "-o", str(out), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    assert "01-original" in done.output
    assert picture.stat().st_size > 2000
    again = runner.invoke(group, ["committee", str(out), "--data", "digits", "--json"])
    found = json.loads(again.output)
    assert found["together"][-1]["mean"] == json.loads((trained / "agreement.json").read_text())["together"][-1]["mean"]
    resumed = runner.invoke(group, ["train", "--resume", str(trained), "-q"])
    assert resumed.exit_code == 0, resumed.output
    assert "committee of 2: error" in resumed.output
    refused = runner.invoke(group, ["train", "--resume", str(trained), "--epochs", "3"])
    assert "goes on with mcdnn as it was begun; give no other settings (epochs)" in refused.output
    refused = runner.invoke(group, ["train", "lenet5", "--columns", "3"])
    assert "--columns is for mcdnn" in refused.output
    refused = runner.invoke(group, ["train", "mcdnn", "-o", "activation=relu"])
    assert "mcdnn is trained in stages" in refused.output
    evaluated = runner.invoke(group, ["evaluate", str(trained / "model.safetensors"), "--json"])
    assert json.loads(evaluated.output)["architecture"] == "committee"


@pytest.mark.long
def test_killed_at_ten_points_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    asked = {**SMALL, "changes": {**SMALL["changes"], "checkpoint_batches": 2}}
    command = [sys.executable, "-m", "tests.tasks.killing_jobs", str(tmp_path), "mcdnn", json.dumps(asked), "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert found["files"] > 4
    for each in found["tries"]:
        assert each["first"] == -signal.SIGKILL, each
        assert (each["second"], each["differing"]) == (0, []), each
