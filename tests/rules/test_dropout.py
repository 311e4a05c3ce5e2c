"""Dropout: its mask, its scale, and the same draws as torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.dropout import Dropout


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("whole_maps", [False, True])
def test_same_seed_same_mask_as_torch(p: float, whole_maps: bool) -> None:
    x = torch.randn(5, 7, 3, 4, requires_grad=True)
    torch.manual_seed(3)
    expected = (F.dropout2d if whole_maps else F.dropout)(x, p)
    delta = torch.randn_like(x)
    (gradient,) = torch.autograd.grad(expected, x, delta)
    torch.manual_seed(3)
    rule = Dropout(p, whole_maps=whole_maps)
    y, saved = rule.forward(x.detach())
    ((delta_x,), _) = rule.backward(saved, delta)
    assert torch.equal(y, expected.detach())
    assert delta_x is not None
    assert torch.equal(delta_x, gradient)


def test_shares() -> None:
    """Of 10,000 units 30 % ± 5 deviations are dropped; the kept ones are scaled by 1/(1 − p)."""
    y, _ = Dropout(0.3).forward(torch.ones(100, 100, dtype=torch.float64))
    dropped = float((y == 0).double().mean())
    assert abs(dropped - 0.3) < 5 * (0.3 * 0.7 / 10000) ** 0.5
    assert set(y.flatten().tolist()) == {0.0, 1 / 0.7}


def test_evaluation_changes_nothing() -> None:
    x = torch.randn(2, 3)
    y, saved = Dropout(0.5, training=False).forward(x)
    assert torch.equal(y, x)
    assert torch.equal(Dropout(0.5, training=False).backward(saved, x)[0][0], x)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [nn.Dropout(0.4), nn.Dropout1d(), nn.Dropout2d(0.2), nn.Dropout3d()], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_bound_modules(module: nn.Module, training: bool) -> None:
    x: Tensor = torch.randn((4, 6, 3, 2, 2)[: {"Dropout1d": 3, "Dropout3d": 5}.get(type(module).__name__, 4)])
    module.train(training)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    torch.manual_seed(0)
    y, _ = applied.rule.forward(x)
    torch.manual_seed(0)
    assert torch.equal(y, module(x))


def test_canary() -> None:
    """Another seed gives another mask: the comparison above can fail."""
    x: Any = torch.ones(50)
    torch.manual_seed(0)
    one, _ = Dropout().forward(x)
    torch.manual_seed(1)
    assert not torch.equal(one, F.dropout(x))


def test_error() -> None:
    with pytest.raises(ArgumentError, match=r"p: got 1\.5, wanted a probability from 0 to 1"):
        Dropout(1.5)
