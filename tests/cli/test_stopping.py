"""Real processes that are asked to stop, or whose reader goes away; names that terminals and files take badly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convscope
from convscope.training import load

SHORT = "--engine torch --threads 1 --no-pictures --no-watch --seed 5"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    "PYTHONPATH": str(Path(convscope.__file__).parent.parent),
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(autouse=True)
def hangups_heard() -> Iterator[None]:
    """Children inherit what is ignored, and these tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def shell(script: str, folder: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A bash script in ``folder``, with $convscope the program and $train its training with short settings."""
    program = f"{sys.executable} -m convscope"
    script = script.replace("$train", f"{program} train {SHORT}").replace("$convscope", program)
    with finished_or_killed(["bash", "-c", script], cwd=folder, encoding=encoding) as process:
        out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(script, process.returncode, out, err)


@contextlib.contextmanager
def finished_or_killed(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that, with all that it has started, does not outlive a test that failed."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("name", [pytest.param("SIGTERM", marks=pytest.mark.long), "SIGHUP"])
def test_a_signal_saves_and_ends_with_130(tmp_path: Path, name: str) -> None:
    """Ctrl-C: tests/cli/test_train.py."""
    command = [sys.executable, "-m", "convscope", "train", "-r", str(tmp_path / "run"), "-e", "500", *SHORT.split()]
    with finished_or_killed(command, encoding="utf-8") as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "history.csv").is_file() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "")
    assert f"convscope train --resume {tmp_path / 'run'}" in out
    last = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["signal"]) == ("Interrupted", name)
    assert Path(last["path"]).is_file()
    assert Path(last["path"]).stem.endswith(str(last["step"]))


def test_a_reader_who_goes_away_stops_the_run_after_it_was_saved(tmp_path: Path) -> None:
    done = shell("{ $train -e 500 -r run; echo rc $? >&2; } | head -4", tmp_path)
    assert done.stderr == "rc 141\n"
    last = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "Interrupted"
    assert Path(last["path"]).stem.endswith(str(last["step"]))
    epoch = last["epoch"] + 1
    again = shell(f"$convscope train --resume run -e {epoch} -q --no-pictures", tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (0, 0)
    assert "the learning rate goes from" in again.stdout
    assert load(tmp_path / "run" / "model.safetensors") is not None


@pytest.mark.long
def test_nohup_goes_on_without_a_reader(tmp_path: Path) -> None:
    """nohup means that nobody need look on: SIGHUP is ignored from the start."""
    done = shell("{ trap '' HUP; $train -e 3 -r run; echo rc $? >&2; } | head -1", tmp_path)
    assert done.stderr == "rc 0\n"
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 4
    assert load(tmp_path / "run" / "model.safetensors") is not None


def test_closed_output_stops_nothing(tmp_path: Path) -> None:
    done = shell("$train -e 1 -r run >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def fill(folder: bytes) -> None:
    for kind, name in enumerate((b"caf\xe9", b"[bold]", "猫\n".encode())):
        place = os.path.join(folder, name)  # noqa: PTH118 (bytes)
        os.makedirs(place)  # noqa: PTH103
        for number in range(5):
            with open(os.path.join(place, b"%d.png" % number), "wb") as file:  # noqa: PTH118, PTH123
                Image.new("L", (28, 28), 80 * kind + number).save(file, "PNG")


@pytest.mark.parametrize("encoding", ["utf-8", pytest.param("latin-1", marks=pytest.mark.long)])
def test_names_that_are_no_text_or_look_like_markup(tmp_path: Path, encoding: str) -> None:
    data = b"p\xe9 [red]"
    fill(os.path.join(os.fsencode(tmp_path), data))  # noqa: PTH118
    name = r"$'p\xe9 [red]'"
    script = f"export PYTHONIOENCODING={encoding}; $train -e 1 -r run lenet5 --recipe none -d {name} && "
    script += f"$convscope evaluate run/model.safetensors && $convscope predict run/model.safetensors {name} --json"
    done = shell(script, tmp_path, encoding)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert r"lenet5 on p\xe9 [red]: " in done.stdout
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 15
    assert set(answers[0]["probabilities"]) == {"caf\\xe9", "[bold]", "猫\n"}
    assert all(Path(tmp_path / answer["picture"]).is_file() for answer in answers)
    resumed = shell("$convscope train --resume run -e 2 --no-pictures", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
