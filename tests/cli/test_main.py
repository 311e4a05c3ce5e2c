"""The command line as a whole: quick help, close matches, one line for every mistake, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Call

import convscope
from convscope.cli import main


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(convscope.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
        check=False,
    )


def test_the_module_runs() -> None:
    done = python("-m", "convscope", "--version")
    assert done.stdout.strip() == f"convscope, version {convscope.__version__}"


def test_a_training_leaves_nothing_on_standard_error(tmp_path: Path) -> None:
    """What is alive when Python ends, the engine's networks among it, is nobody's mistake to be told of."""
    run = ["--engine", "native", "--max-steps", "2", "--no-pictures", "--no-watch", "--run-dir", str(tmp_path / "run")]
    done = python("-m", "convscope", "train", "lenet5", "--data", "digits", *run)
    assert (done.returncode, done.stderr) == (0, "")
    assert "engine native" in done.stdout


def test_a_notebook_s_backend_of_matplotlib_is_not_asked_for() -> None:
    script = "import convscope.cli.main as m, contextlib\nwith contextlib.suppress(SystemExit): m.run(['-V'])\n"
    done = python("-c", script + "import matplotlib", MPLBACKEND="not_there")
    assert done.returncode == 0, done.stderr
    assert python("-c", "import matplotlib", MPLBACKEND="not_there").returncode  # it would be


def test_unknown_command_offers_the_close_one(error: Call) -> None:
    assert "No such command 'trian'. Did you mean 'train'?" in error("trian").stderr


def test_unknown_option_offers_the_close_one(error: Call) -> None:
    text = error("train", "--epoch-count", "3").stderr
    assert "No such option" in text
    assert "--epochs" in text or "Did you mean" in text


def test_a_mistake_is_one_line_without_traceback(error: Call) -> None:
    result = error("models", "lenet6")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("convscope: error: model: got 'lenet6', wanted one of")
    assert "Did you mean 'lenet5'" in result.stderr


def test_the_traceback_can_be_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DEBUG", "1")
    assert "Traceback" in call("models", "lenet6", code=2).stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("to go on: convscope train --resume runs/a"), 130, "--resume runs/a"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(28, "No space left on device", "/full/file"), 2, "/full/file: No space left on device"),
        (click.UsageError("wrong use"), 2, "wrong use"),
    ],
)
def test_exit_codes(call: Call, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str) -> None:
    @click.command()
    def broken() -> None:
        raise raised

    monkeypatch.setattr(main.Commands, "get_command", lambda self, ctx, name: broken)
    result = call("models", code=code)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_unforeseen_mistakes_of_ours_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main.Commands, "get_command", lambda self, ctx, name: broken)
    with pytest.raises(ZeroDivisionError):
        main.group.main(["models"])


def test_a_closed_pipe_is_quiet() -> None:
    script = f"{sys.executable} -m convscope models | true; exit ${{PIPESTATUS[0]}}"
    source = str(Path(convscope.__file__).parent.parent)
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)
