"""The run folder: locked, written whole, and read back."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convscope.errors import ArgumentError, CheckpointError
from convscope.training import Result, load
from convscope.training.run_folder import RunFolder, new_run_dir, read_config

Fit = Callable[..., Result]


def test_what_a_run_leaves_behind(fitted: Fit) -> None:
    result = fitted(epochs=3, watch=True, evaluate_every=2)
    folder = result.run_dir
    names = {each.name for each in folder.iterdir()}
    assert names == {
        "checkpoints", "config.json", "events.jsonl", "history.csv", "lock", "metrics.json", "model.safetensors",
        "watch",
    }  # fmt: skip
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["test_loss"]) for row in rows] == [False, True, True]
    assert float(rows[2]["test_accuracy"]) == result.history[2].test_accuracy == result.metrics.accuracy
    kinds = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "RunFinished"
    assert "BatchDone" not in kinds
    described = read_config(folder)
    assert described["config"]["epochs"] == 3
    assert described["data"]["name"] == "stripes"
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == result.metrics.accuracy
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert len(list((folder / "watch").iterdir())) == 3
    load(folder / "model.safetensors")


def test_the_history_is_written_while_the_run_goes_on(fitted: Fit, tmp_path: Path) -> None:
    lengths = []

    def look(event: object) -> None:
        if type(event).__name__ == "EpochDone":
            lengths.append(len((tmp_path / "run" / "history.csv").read_text().splitlines()))

    fitted(epochs=3, listeners=[look])
    assert lengths == [2, 3, 4]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    holder = RunFolder(tmp_path / "run")
    with pytest.raises(ArgumentError, match=r"run_dir: got .* a folder that no run is using \(process \d+ is\)"):
        RunFolder(tmp_path / "run")
    holder.close()
    RunFolder(tmp_path / "run").close()


def test_a_killed_process_does_not_keep_the_folder(tmp_path: Path) -> None:
    script = "import sys, os, signal; from convscope.training.run_folder import RunFolder\n"
    script += "folder = RunFolder(sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=False)
    assert (tmp_path / "run" / "lock").read_text().isdigit()
    RunFolder(tmp_path / "run").close()


def test_a_second_run_in_the_same_folder_is_refused_and_loses_nothing(fitted: Fit) -> None:
    result = fitted(epochs=1)
    before = (result.run_dir / "model.safetensors").read_bytes()
    with pytest.raises(ArgumentError, match="run_dir: got .* a folder without a run. resume=True goes on with it"):
        fitted(epochs=1)
    assert (result.run_dir / "model.safetensors").read_bytes() == before


def test_folders_that_cannot_be(tmp_path: Path, fitted: Fit) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="a part of the path is a file, not a folder. Choose another run_dir"):
        fitted(run_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(CheckpointError, match="a part of the path is a file"):
        fitted(run_dir=str(tmp_path / "file"))
    with pytest.raises(ArgumentError, match=r"run_dir: .* a run that was begun \(it has no config.json\)"):
        fitted(run_dir=str(tmp_path), resume=True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json: damaged"):
        fitted(run_dir=str(tmp_path), resume=True)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not the configuration of a run"):
        fitted(run_dir=str(tmp_path), resume=True)


def test_unfinished_files_of_a_killed_run_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    left = tmp_path / "checkpoints" / ".step-000000001.safetensors.123.part"
    left.write_text("half")
    RunFolder(tmp_path).close()
    assert not left.exists()


def test_new_folders_are_numbered(tmp_path: Path) -> None:
    assert new_run_dir("lenet5", "digits", tmp_path) == tmp_path / "lenet5-digits-001"
    (tmp_path / "lenet5-digits-001").mkdir()
    assert new_run_dir("lenet5", "digits", tmp_path) == tmp_path / "lenet5-digits-002"
    assert new_run_dir("Sequential", "my/data set", tmp_path).name == "Sequential-my_data_set-001"
