"""Activations and their derivatives against torch and finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule, well_apart
from torch import Tensor, nn

from convscope.rules import activation, base
from convscope.rules.activation import (
    ELU,
    GELU,
    Activation,
    HardSigmoid,
    HardSwish,
    HardTanh,
    LeakyReLU,
    Linear,
    ReLU,
    ScaledTanh,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)

CASES: list[tuple[Activation, Any]] = [
    (Linear(), lambda x: x),
    (Sigmoid(), torch.sigmoid),
    (Sigmoid(2.5), lambda x: torch.sigmoid(2.5 * x)),
    (Tanh(), torch.tanh),
    (ScaledTanh(), lambda x: 1.7159 * torch.tanh(2 / 3 * x)),
    (ReLU(), F.relu),
    (LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
    (HardTanh(), F.hardtanh),
    (HardTanh(0, 6), F.relu6),
    (ELU(0.7), lambda x: F.elu(x, 0.7)),
    (GELU(), F.gelu),
    (GELU(tanh_form=True), lambda x: F.gelu(x, approximate="tanh")),
    (SiLU(), F.silu),
    (HardSigmoid(), F.hardsigmoid),
    (HardSwish(), F.hardswish),
    (Softplus(), F.softplus),
    (Softplus(3.0, 5.0), lambda x: F.softplus(x, 3.0, 5.0)),
]


def _precision(rule: Activation) -> float:
    """torch keeps the hard sigmoid's 1/6 as a float32 number, even for float64: an error of 2e-8."""
    return 4e-8 if isinstance(rule, HardSigmoid) else 1e-9


@pytest.mark.parametrize(("rule", "reference"), CASES, ids=[str(rule) for rule, _ in CASES])
@pytest.mark.parametrize("shape", [(1, 1), (17, 3, 5, 4), (33,)])
def test_against_torch(rule: Activation, reference: Any, shape: tuple[int, ...]) -> None:
    x = well_apart(*shape)
    x = x * (8.7 / float(x.abs().max()) if x.numel() > 1 else 40)  # across every bend, and into saturation
    check_rule(rule, reference, [x], exactly=_precision(rule))


@pytest.mark.parametrize(("rule", "reference"), CASES, ids=[str(rule) for rule, _ in CASES])
def test_bends_are_torch_s(rule: Activation, reference: Any) -> None:
    """At the bends themselves (0, ±1, ±3, 6) the derivative is the one that torch chooses."""
    x = torch.tensor([-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0], dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(reference(leaf).sum(), leaf)
    _, saved = rule.forward(x)
    ((found,), _) = rule.backward(saved, torch.ones_like(x))
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=_precision(rule), atol=1e-12)


def test_scaled_tanh_is_one_at_one() -> None:
    """LeCun's choice of the two constants: f(±1) = ±1."""
    y, _ = ScaledTanh().forward(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert y.tolist() == pytest.approx([-1, 1], abs=1e-4)


def test_hand_worked_derivatives() -> None:
    """σ(0) = ½ and σ′(0) = β/4; tanh′(0) = 1; the scaled tanh's slope at 0 is a·b = 1.7159·2/3."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for rule, expected in ((Sigmoid(3.0), 0.75), (Tanh(), 1.0), (ScaledTanh(), 1.7159 * 2 / 3)):
        y, saved = rule.forward(zero)
        assert y.item() == (0.5 if isinstance(rule, Sigmoid) else 0.0)
        ((found,), _) = rule.backward(saved, one)
        assert found is not None
        assert found.item() == pytest.approx(expected, rel=1e-15)


def test_saturated_values_stay_finite() -> None:
    x = torch.tensor([-1e4, -200.0, 200.0, 1e4])
    for rule, _ in CASES:
        y, saved = rule.forward(x)
        ((found,), _) = rule.backward(saved, torch.ones_like(x))
        assert found is not None
        assert torch.isfinite(y).all(), rule
        assert torch.isfinite(found).all(), rule


MODULES: list[nn.Module] = [
    nn.Identity(), nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.3), nn.ReLU6(),
    nn.Hardtanh(-2, 1), nn.ELU(0.5), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardsigmoid(), nn.Hardswish(),
    nn.Softplus(2),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_bound_modules(module: nn.Module) -> None:
    x = well_apart(3, 2, 4) * 37
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    assert isinstance(applied.rule, Activation)
    check_rule(applied.rule, lambda x: module(x.clone()), [x], exactly=_precision(applied.rule))


def test_u_is_the_input_and_delta_u_has_the_slope() -> None:
    x, delta = well_apart(2, 3), torch.ones(2, 3, dtype=torch.float64)
    rule = Sigmoid()
    y, saved = rule.forward(x)
    u, delta_u = rule.at_u(saved, (x,), y, delta)
    assert u is x
    torch.testing.assert_close(delta_u, y * (1 - y))


def test_every_activation_is_covered() -> None:
    classes = {
        item
        for item in vars(activation).values()
        if isinstance(item, type) and issubclass(item, Activation) and item is not Activation
    }
    assert classes == {type(rule) for rule, _ in CASES}


def test_canary() -> None:
    class Wrong(Sigmoid):
        def slope(self, saved: Tensor) -> Tensor:
            return saved * (1 - saved) + 1e-8

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Wrong(), torch.sigmoid, [well_apart(4)])
    assert math.isclose(0.25, float(Sigmoid().slope(torch.tensor(0.5))))
