"""With and without the compiled engine."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from convscope import accelerate, create_model, native
from convscope.cli.health import _engine
from convscope.layers import LOSSES
from convscope.native import __main__ as report
from convscope.native import availability
from convscope.spec import Input, Preprocessing
from convscope.tasks.classification.task import ClassificationObjective
from convscope.training import Config
from convscope.training.distributed import Group
from convscope.training.steppers import Assignment, choose


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a computer where the engine could not be compiled."""
    real = builtins.__import__

    def importing(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if name.endswith("_engine") or "_engine" in (fromlist or ()):
            raise ModuleNotFoundError("No module named 'convscope.native._engine'")
        return real(name, globals, locals, fromlist, level)

    for name in ("convscope.native.extension", "convscope.native._engine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(native, "extension", raising=False)
    monkeypatch.delattr(native, "_engine", raising=False)
    availability._load.cache_clear()
    monkeypatch.setattr(builtins, "__import__", importing)
    yield
    monkeypatch.undo()
    availability._load.cache_clear()


def assignment(engine: str) -> Assignment:
    config = Config.of(engine=engine)
    pixels = Input("pictures", preprocessing=Preprocessing(1, (28, 28), (0.5,), (0.5,)))
    objective = ClassificationObjective(LOSSES["cross_entropy"])
    return Assignment(create_model("lenet5"), objective, (pixels,), config, torch.device("cpu"), Group(), steps=1)


@pytest.mark.usefixtures("no_extension")
def test_without_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert not native.available()
    assert availability.problem()
    with pytest.raises(
        native.EngineUnavailableError, match=r"the native engine is not available: .*falls back to torch"
    ):
        accelerate(create_model("lenet5"))
    with pytest.raises(native.EngineUnavailableError):
        native.NativeNetwork(create_model("lenet5"), (1, 28, 28))
    report.main()
    assert capsys.readouterr().out.startswith("native engine: not available (")
    native.lower(create_model("lenet5"), (1, 28, 28))  # a plan needs no engine


@pytest.mark.usefixtures("no_extension")
def test_the_installation_says_why_it_left_the_engine_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unbuilt.txt").write_text("no C++ compiler that works was found when convscope was installed\n")
    monkeypatch.setattr(native, "__path__", [*native.__path__, str(tmp_path)])
    assert availability.problem() == "no C++ compiler that works was found when convscope was installed"
    report.main()
    assert capsys.readouterr().out.startswith("native engine: not available (no C++ compiler that works was found")
    assert "pip's --verbose" in _engine()[0].remedy


@pytest.mark.usefixtures("no_extension")
def test_auto_falls_back_and_says_so() -> None:
    stepper, reason = choose(assignment("auto"))
    assert stepper.name == "torch"
    assert reason == "the native engine is not built here"


@pytest.mark.usefixtures("reference_engine")
def test_auto_takes_the_engine_where_it_can() -> None:
    stepper, reason = choose(assignment("auto"))
    assert (stepper.name, reason) == ("native", "every layer has a native kernel")


def test_the_report_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "convscope.native"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("native engine: ")
    assert done.stdout.count("\n") == 1
