"""A few of the random programs of ``tests.programs``, and the ones that once went wrong."""

from __future__ import annotations

import collections

import pytest
import torch
from tests import programs
from tests.programs import Session, differences, run, unlike

from convscope.native import available

pytestmark = pytest.mark.skipif(not available(), reason="the native engine is not built")

#: A write where autograd is off, into what depends on the input alone; a step taken again over a buffer in use.
ONCE_WRONG = [43, 148]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
def test_random_programs() -> None:
    found, counts = run(0, 12)
    assert found == []
    assert counts["traces"] > 12
    assert counts["accelerated"] > counts["refused"]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_programs_that_were_wrong(seed: int) -> None:
    assert list(differences(Session(seed), collections.Counter())) == []


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(43)
    right = programs.by_torch(session.model(), session.batch(0))
    assert unlike(right, right, programs.EXACT) == []
    assert unlike({**right, "x": right["x"] * 1.0001}, right, programs.ROUGH / 100) == ["x"]
    assert unlike({**right, "x": torch.zeros(1)}, right, 1.0) == ["x"]

    monkeypatch.setattr(programs, "by_torch", lambda model, x: {**right, "output 0": torch.rand(3, 3)})
    assert len(run(43, 44)[0]) == 1
