"""A job killed anywhere and called again ends with the bits of one left alone; stages side by side change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.stages import jobs, killing

from convscope.errors import ArgumentError
from convscope.tasks.stages import Job, StageError, events, run_job

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

# A job in a process of its own, by the name of its function; a line for every event, and one for how it ended.
CALLED = """
import json, sys
import torch
from convscope.tasks.stages import Job, run_job
torch.set_num_threads(1)
def listen(event):
    print(type(event).__name__, getattr(event, "stage", ""), flush=True)
arguments, workers = json.loads(sys.argv[3]), int(sys.argv[4])
try:
    run_job(Job("tests.tasks.stages.jobs:" + sys.argv[2], arguments), sys.argv[1], workers=workers, listeners=[listen],
            resume_command="call again")
except KeyboardInterrupt as stop:
    print("KeyboardInterrupt:", stop, flush=True)
"""


@contextlib.contextmanager
def called(folder: Path, name: str, workers: int, **arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """The process of a call, killed at the end if it still runs."""
    command = [sys.executable, "-c", CALLED, str(folder), name, json.dumps(arguments), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], line: str, times: int = 1) -> list[str]:
    """What the process printed up to ``line``, which must come."""
    assert process.stdout is not None
    found: list[str] = []
    while found.count(line) < times:
        found.append(process.stdout.readline().strip())
        assert found[-1], f"ended before {line!r}: {found}"
    return found


def assert_saved(run_dir: Path) -> None:
    """The training there was interrupted, and has saved a checkpoint."""
    log = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "Interrupted"
    assert Path(log[-1]["path"]).is_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the job comes to when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    run_job(jobs.digits(), folder)
    return jobs.result(folder)


def test_killed_at_any_change_of_the_file_system(tmp_path: Path) -> None:
    """Four points out of some 460, spread over the job; all of them are hit by ``killing.py`` with more arguments."""
    chance = random.Random(4)
    shares = [str((part + chance.random()) / 4) for part in range(4)]
    done = subprocess.run(
        [sys.executable, killing.__file__, str(tmp_path), *shares], capture_output=True, text=True, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["points"] > 150
    assert found["names"] > 30
    for tried in found["tried"]:
        assert (tried["first"], tried["second"]) == (-signal.SIGKILL, 0), done.stderr
        assert tried["differing"] == [], tried["point"]


def test_the_comparison_can_fail(tmp_path: Path, whole: dict[str, Any]) -> None:
    run_job(jobs.digits(learning_rate=0.011), tmp_path)
    differing = jobs.differing(whole, jobs.result(tmp_path))
    assert {"first/0.weight", "first:history", "features:outputs", "features:json"} <= set(differing)
    assert "deep/second/0.weight" not in differing


@pytest.mark.long
def test_side_by_side_is_one_after_another_and_survives_kills(tmp_path: Path, whole: dict[str, Any]) -> None:
    """The calling process is killed when two stages run and called again at once: the orphans let go of the folder."""
    with called(tmp_path, "digits", 2) as first:
        read_until(first, "StageStarted deep/second")
    seen: list[events.JobEvent] = []
    run_job(jobs.job(), tmp_path, workers=2, listeners=[seen.append])
    assert sum(isinstance(event, events.StageStarted) for event in seen) >= 3
    assert jobs.differing(whole, jobs.result(tmp_path)) == []


def test_ctrl_c_side_by_side_saves_the_training_and_says_how_to_go_on(tmp_path: Path) -> None:
    with called(tmp_path, "slow", 2, names=["training", "computing"]) as process:
        printed = read_until(process, "StageStarted computing")
        if "StageTold training" not in printed:
            read_until(process, "StageTold training")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert "JobInterrupted" in output
    assert "KeyboardInterrupt: the job was interrupted; to go on: call again" in output
    assert_saved(tmp_path / "training")
    assert not list(tmp_path.rglob("output.txt")), "nothing was printed"


def test_sigterm_saves_too_and_nobody_else_works_in_the_folder_meanwhile(tmp_path: Path) -> None:
    with called(tmp_path, "slow", 1, names=["training"]) as process:
        read_until(process, "StageTold training")
        message = rf"folder: got .*no other call works in \(process {process.pid} does\)"
        with pytest.raises(ArgumentError, match=message):
            run_job(jobs.slow(["training"]), tmp_path)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert (process.returncode, "JobInterrupted" in output) == (143, True)
    assert_saved(tmp_path / "training")


def test_sigterm_ends_work_without_a_training_at_once(tmp_path: Path) -> None:
    with called(tmp_path, "slow", 1, names=["computing"]) as process:
        read_until(process, "StageStarted computing")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert (process.returncode, "JobInterrupted" in output) == (143, True)


@pytest.mark.parametrize("own", [True, False])
def test_a_failure_side_by_side_names_the_stage_and_stops_the_others_well(tmp_path: Path, own: bool) -> None:
    job = Job.of(jobs.one_bad, text="no such thing", own=own)
    wanted = StageError if own else RuntimeError
    message = r"^stage 'bad': somewhere: no such thing$" if own else r"(?s)^stage 'bad' failed:.*in fail.*LookupError"
    with pytest.raises(wanted, match=message):
        run_job(job, tmp_path, workers=2)
    assert_saved(tmp_path / "training")


def test_a_worker_that_dies_is_told_of_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"^stage 'ill': its process ended by SIGKILL: on my way out. .*fewer workers"):
        run_job(Job.of(jobs.dies, number=int(signal.SIGKILL)), tmp_path, workers=2)
