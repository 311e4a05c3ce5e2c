"""A few of the random programs of ``tests.programs``, and the ones that once went wrong."""

from __future__ import annotations

import collections

import pytest
import torch
from tests import programs
from tests.programs import Session, differences, run, unlike

from convscope.native import available

pytestmark = pytest.mark.skipif(not available(), reason="the native engine is not built")

ONCE_WRONG = {
    "a write where autograd is off, into what depends on the input alone": (
        43, ["no_grad write"], ["nothing", "hook on a parameter"]),
    "a step taken again over a buffer in use": (
        148, ["normalised", "tracked", "branch on attribute", "no_grad write"], ["nothing", "hook back"]),
    "a global that is changed in place": (1, ["convolution", "global list"], ["nothing", "global list"]),
    "an attribute of the class": (2, ["convolution", "class"], ["nothing", "class"]),
    "an array": (3, ["convolution", "array"], ["nothing", "array"]),
    "what is counted in slots": (4, ["convolution", "seen"], ["nothing", "nothing"]),
    "an iterator": (5, ["convolution", "iterator"], ["nothing", "nothing"]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
def test_random_programs() -> None:
    found, counts = run(0, 12)
    assert found == []
    assert counts["traces"] > 12
    assert counts["accelerated"] > counts["refused"]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize("program", ONCE_WRONG.values(), ids=ONCE_WRONG)
@pytest.mark.parametrize("way", ["plain", "twice"])
def test_programs_that_were_wrong(program: tuple[int, list[str], list[str]], way: str) -> None:
    session, counts = Session(*program), collections.Counter[str]()
    session.inputs, session.ways = 1, [way] * len(session.changes)
    assert list(differences(session, counts)) == []
    assert counts["traces"] == 2


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(43)
    right = programs.by_torch(session.model(), session.batch(0))
    assert unlike(right, right, programs.EXACT) == []
    assert unlike({**right, "x": right["x"] * 1.0001}, right, programs.ROUGH / 100) == ["x"]
    assert unlike({**right, "x": torch.zeros(1)}, right, 1.0) == ["x"]

    monkeypatch.setattr(programs, "by_torch", lambda *_: {**right, "output 0": torch.rand(3, 3)})
    assert len(run(43, 44)[0]) == 1
