"""Timing evaluations: what is timed was verified, and who cannot take part says why."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn

from convscope.errors import UnknownNameError
from convscope.native import availability
from convscope.native.benchmarking import answering, inference
from convscope.native.benchmarking.answering import Answer, Answering
from convscope.native.benchmarking.inference import Timing, WrongAnswerError, race, ratio, startup

pytestmark = pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}")

SHAPE = (3, 9, 7)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 7 * 5, 4))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "TURN", 0.0005)


def test_every_contestant_is_timed_and_compared() -> None:
    rows = race("small", small(), SHAPE, 2, ("native", "eager", "channels_last"), threads=1, rounds=3)
    assert [row.contestant for row in rows] == ["native", "eager", "channels_last"]
    for row in rows:
        assert (row.model, row.pictures, row.threads, row.failure) == ("small", 2, 1, None)
        assert row.start > 0
        assert 0 < row.best <= row.low <= row.milliseconds <= row.high
        assert row.difference <= answering.TOLERANCE
    assert ratio(rows, ["eager"]) == rows[1].milliseconds / rows[0].milliseconds


def test_onnx_runtime_answers_alike() -> None:
    pytest.importorskip("onnxruntime")
    row = race("small", small(), SHAPE, 1, ("onnxruntime",), threads=1, rounds=2)[0]
    assert row.failure is None
    assert row.difference <= answering.TOLERANCE


def test_a_wrong_native_answer_ends_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Answering(lambda model, x: lambda pictures: model(pictures) * 1.001, "off", own=True)
    monkeypatch.setitem(answering.CONTESTANTS, "native", own)
    with pytest.raises(WrongAnswerError, match=r"small, 1 pictures: the logits differ by 1\.0.e-03"):
        race("small", small(), SHAPE, 1, ("native",), rounds=2)


def test_who_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(model: nn.Module, x: torch.Tensor) -> Answer:
        raise ImportError("No module named 'elsewhere'")

    def wrong(model: nn.Module, x: torch.Tensor) -> Answer:
        return lambda pictures: model(pictures) + 1

    monkeypatch.setitem(answering.CONTESTANTS, "compile", Answering(absent, "absent"))
    monkeypatch.setitem(answering.CONTESTANTS, "eager", Answering(wrong, "wrong"))
    rows = race("small", small(), SHAPE, 1, ("native", "compile", "eager"), rounds=2)
    assert rows[1].failure == "No module named 'elsewhere'"
    assert rows[2].failure is not None
    assert "differ" in rows[2].failure
    assert math.isnan(rows[2].milliseconds)
    assert math.isnan(ratio(rows, ["compile", "eager"]))


def test_disturbed_turns_are_left_out() -> None:
    quiet, loud, louder = inference._Turn([1.0], 0.1), inference._Turn([2.0], 0.9), inference._Turn([3.0], 2.0)
    assert inference._undisturbed([loud, quiet, louder]) == [quiet]
    assert inference._undisturbed([louder, loud]) == [loud]
    assert inference._undisturbed([quiet, loud, quiet]) == [quiet, quiet]


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    race("small", small(), SHAPE, 1, ("eager",), threads=before + 1, rounds=2)
    assert torch.get_num_threads() == before


def test_an_unknown_contestant_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"contestant.*other"):
        race("small", small(), SHAPE, 1, ("other",))


def test_a_ratio_needs_both_sides() -> None:
    assert math.isnan(ratio([Timing("small", 1, 1, "native", 2.0)], ["eager"]))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: __import__("no_such_" + name))
    with pytest.raises(ModuleNotFoundError, match="no_such_openvino"):  # what the package itself lacks is not hidden
        answering.openvino(small(), torch.zeros(1, *SHAPE))

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    rows = race("small", small(), SHAPE, 1, ("onnxruntime", "openvino"), rounds=2)
    assert [row.failure for row in rows] == ["onnxruntime is not installed", "openvino is not installed"]


def test_openvino_answers_alike() -> None:
    pytest.importorskip("openvino")
    row = race("small", small(), SHAPE, 2, ("openvino",), threads=1, rounds=2)[0]
    assert row.failure is None
    assert row.difference <= answering.TOLERANCE


def test_bfloat16_has_a_tolerance_of_its_own() -> None:
    torch.manual_seed(0)
    row = race("small", small(), SHAPE, 2, ("bfloat16",), threads=1, rounds=2)[0]
    assert row.failure is None
    assert answering.TOLERANCE < row.difference < 0.1


def test_a_native_start_is_taken_apart() -> None:
    start = startup(small(), SHAPE, 1, threads=1)
    assert min(start.lowering, start.first, start.comparing) > 0
    assert start.building >= 0
