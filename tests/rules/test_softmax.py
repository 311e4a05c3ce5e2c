"""Softmax and log-softmax."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule
from torch import Tensor, nn

from convscope.rules import base
from convscope.rules.softmax import LogSoftmax, Softmax


def test_hand_worked() -> None:
    y, _ = Softmax().forward(torch.log(torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64)))
    assert y[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    z, _ = LogSoftmax().forward(torch.zeros(1, 4, dtype=torch.float64))
    assert z[0].tolist() == pytest.approx([-math.log(4)] * 4)


@pytest.mark.parametrize("shape", [(1, 10), (17, 3), (2, 5, 3, 4)])
@pytest.mark.parametrize("dim", [1, -1])
def test_against_torch(shape: tuple[int, ...], dim: int) -> None:
    x = 5 * torch.randn(*shape, dtype=torch.float64)
    check_rule(Softmax(dim), lambda x: F.softmax(x, dim), [x])
    check_rule(LogSoftmax(dim), lambda x: F.log_softmax(x, dim), [x])


def test_large_values_do_not_overflow() -> None:
    x = torch.tensor([[1e4, -1e4, 9999.0]])
    for rule in (Softmax(), LogSoftmax()):
        y, saved = rule.forward(x)
        ((delta_x,), _) = rule.backward(saved, torch.ones_like(y))
        assert delta_x is not None
        assert torch.isfinite(y).all()
        assert torch.isfinite(delta_x).all()


@pytest.mark.filterwarnings("ignore:Implicit dimension")
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("module", [nn.Softmax(), nn.Softmax(0), nn.LogSoftmax(), nn.LogSoftmax(-1)], ids=str)
def test_bound_modules(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    check_rule(applied.rule, module, [x])


def test_u_is_the_input() -> None:
    x, delta = torch.randn(2, 3), torch.randn(2, 3)
    for rule in (Softmax(), LogSoftmax()):
        y, saved = rule.forward(x)
        u, delta_u = rule.at_u(saved, (x,), y, delta)
        assert u is x
        assert torch.equal(delta_u, rule.backward(saved, delta)[0][0])  # type: ignore[arg-type]


def test_canary() -> None:
    class Wrong(Softmax):
        def backward(self, saved: Any, delta: Tensor) -> Any:
            return (saved["y"] * (1 - saved["y"]) * delta,), {}  # the diagonal alone: a sigmoid's derivative

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Wrong(), lambda x: F.softmax(x, -1), [torch.randn(2, 3, dtype=torch.float64)])
