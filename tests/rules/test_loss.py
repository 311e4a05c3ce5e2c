"""Losses: value and sensitivity against hand-worked numbers, torch under autograd, and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import slope, worst
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.layers.losses import CrossEntropy
from convscope.rules import loss

Function = Callable[..., tuple[Tensor, Tensor]]


def _lenet(y: Tensor, t: Tensor) -> Tensor:
    """LeCun et al. 1998, eq. (9), term by term, j = 0.1."""
    total = torch.zeros((), dtype=y.dtype)
    for row, target in zip(y, t, strict=True):
        rivals = math.exp(-0.1) + sum((torch.exp(-penalty) for penalty in row), torch.zeros((), dtype=y.dtype))
        total = total + row[target] + torch.log(rivals)
    return total / len(y)


WITH_NUMBERS: list[tuple[Function, Callable[[Tensor, Tensor], Tensor]]] = [
    (loss.squared_error, lambda y, t: 0.5 * F.mse_loss(y, t, reduction="sum") / len(y)),
    (loss.mean_squared_error, F.mse_loss),
    (
        loss.binary_cross_entropy,
        lambda y, t: F.binary_cross_entropy_with_logits(y, t, reduction="sum") / len(y),
    ),
]
WITH_CLASSES: list[tuple[Function, Callable[[Tensor, Tensor], Tensor]]] = [
    (loss.cross_entropy, F.cross_entropy),
    (loss.hinge, F.multi_margin_loss),
    (loss.rbf, _lenet),
]


def _check(function: Function, reference: Callable[[Tensor, Tensor], Tensor], y: Tensor, t: Tensor) -> None:
    value, delta = function(y, t)
    leaf = y.clone().requires_grad_()
    expected = reference(leaf, t)
    (gradient,) = torch.autograd.grad(expected, leaf)
    assert float(value) == pytest.approx(expected.item(), rel=1e-12)
    assert worst(delta, gradient) <= 1e-9
    direction = torch.randn_like(y)
    numeric = slope(lambda moved: function(moved, t)[0], y, direction)
    assert numeric == pytest.approx(float((delta * direction).sum()), rel=1e-6, abs=1e-8)
    summed, summed_delta = function(y, t, reduction="sum")
    assert float(summed) == pytest.approx(float(value) * len(y), rel=1e-12)
    assert worst(summed_delta, delta * len(y)) <= 1e-12


@pytest.mark.parametrize("batch", [1, 15, 17, 33])
@pytest.mark.parametrize(("function", "reference"), WITH_NUMBERS, ids=[f.__name__ for f, _ in WITH_NUMBERS])
def test_against_torch_with_numbers(function: Function, reference: Any, batch: int) -> None:
    y = 3 * torch.randn(batch, 10, dtype=torch.float64)
    _check(function, reference, y, torch.rand(batch, 10, dtype=torch.float64))


@pytest.mark.parametrize("batch", [1, 15, 17, 33])
@pytest.mark.parametrize(("function", "reference"), WITH_CLASSES, ids=[f.__name__ for f, _ in WITH_CLASSES])
def test_against_torch_with_classes(function: Function, reference: Any, batch: int) -> None:
    y = 3 * torch.randn(batch, 10, dtype=torch.float64)
    _check(function, reference, y, torch.randint(10, (batch,)))


def test_hand_worked() -> None:
    y, t = torch.tensor([[1.0, 3.0]], dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    value, delta = loss.squared_error(y, t)
    assert (value.item(), delta.tolist()) == (2.5, [[1, 2]])
    value, delta = loss.mean_squared_error(y, t)
    assert (value.item(), delta.tolist()) == (2.5, [[1, 2]])
    value, delta = loss.binary_cross_entropy(torch.zeros_like(y), t)
    assert value.item() == pytest.approx(2 * math.log(2))
    assert delta.tolist() == [[0.5, -0.5]]
    value, delta = loss.cross_entropy(torch.zeros_like(y), torch.tensor([1]))
    assert value.item() == pytest.approx(math.log(2))
    assert delta.tolist() == [[0.5, -0.5]]
    value, delta = loss.hinge(torch.tensor([[1.0, 1.5, -2.0]]), torch.tensor([0]))
    assert value.item() == pytest.approx(1.5 / 3)
    assert delta[0].tolist() == pytest.approx([-1 / 3, 1 / 3, 0])


def test_the_slope_that_vanishes_and_the_one_that_does_not() -> None:
    """At a saturated wrong unit, u = −10 for target 1, ½‖t−y‖² on a sigmoid gives δ_u = (y − t)·y(1 − y) ≈ −4.5e-5,
    the cross-entropy δ_u = σ(u) − t ≈ −1."""
    u, t = torch.tensor([[-10.0]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    y = torch.sigmoid(u)
    squared = loss.squared_error(y, t)[1] * y * (1 - y)
    assert squared.item() == pytest.approx(-4.54e-5, rel=1e-2)
    assert loss.binary_cross_entropy(u, t)[1].item() == pytest.approx(-1, abs=1e-4)


def test_rbf_is_positive_and_its_logarithm_below_the_first_term() -> None:
    y = 20 * torch.rand(50, 10, dtype=torch.float64)
    for row in y:
        assert loss.rbf(row[None], row.argmin()[None])[0] > 0


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_extreme_outputs_stay_finite(scale: float) -> None:
    y = scale * torch.tensor([[1.0, -1.0, 0.5], [0.2, 1.0, -1.0]])
    t = torch.tensor([1, 2])
    for function in (loss.cross_entropy, loss.hinge, loss.rbf):
        value, delta = function(y, t)
        assert torch.isfinite(value)
        assert torch.isfinite(delta).all()
    value, delta = loss.binary_cross_entropy(y, torch.ones_like(y))
    assert torch.isfinite(value)
    assert torch.isfinite(delta).all()


@pytest.mark.parametrize("gap", [20.0, 40.0, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sure_network_keeps_its_loss(gap: float, dtype: torch.dtype) -> None:
    """p_t is 1 in this type, and yet J = ln(1 + Σ e^(y_k − y_t)) and δ have all their digits, by the rule and, in
    float64, by autograd."""
    y = torch.tensor([[0, gap, -1], [3, 2, 3 + gap]], dtype=dtype)
    t = torch.tensor([1, 2])
    powers = [[math.exp(float(each - row[k])) for each in row] for row, k in zip(y.double(), t, strict=True)]
    sums = [sum(each for i, each in enumerate(row) if i != k) for row, k in zip(powers, t.tolist(), strict=True)]
    wanted = torch.tensor(powers, dtype=torch.float64) / (1 + torch.tensor(sums, dtype=torch.float64)[:, None])
    wanted[[0, 1], t] = -torch.tensor(sums, dtype=torch.float64) / (1 + torch.tensor(sums, dtype=torch.float64))
    value, delta = loss.cross_entropy(y, t, "sum")
    rel = 1e-5 if dtype == torch.float32 else 1e-13
    assert float(value) == pytest.approx(sum(math.log1p(each) for each in sums), rel=rel)
    torch.testing.assert_close(delta.double(), wanted, rtol=rel, atol=0)
    yes, delta = loss.binary_cross_entropy(torch.tensor([[gap]], dtype=dtype), torch.ones(1, 1, dtype=dtype))
    assert float(yes) == pytest.approx(math.log1p(math.exp(-gap)), rel=rel)
    assert float(delta) == pytest.approx(-math.exp(-gap) / (1 + math.exp(-gap)), rel=rel)
    if dtype == torch.float64:
        leaf = y.clone().requires_grad_()
        by_autograd = CrossEntropy().value(leaf, t)
        torch.autograd.backward(by_autograd)
        assert float(by_autograd.detach()) == pytest.approx(float(value) / 2, rel=rel)
        torch.testing.assert_close(leaf.grad, wanted / 2, rtol=rel, atol=0)


def test_canary() -> None:
    def wrong(y: Tensor, t: Tensor, reduction: Any = "mean") -> tuple[Tensor, Tensor]:
        value, delta = loss.cross_entropy(y, t, reduction)
        return value, delta + 1e-8

    with pytest.raises(AssertionError):
        _check(wrong, F.cross_entropy, torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss.squared_error(torch.zeros(2, 3), torch.zeros(2)), r"targets: got \(2,\), wanted the shape of"),
        (lambda: loss.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3])), "targets: got 3, wanted classes from 0"),
        (lambda: loss.hinge(torch.zeros(2, 3), torch.tensor([0])), "targets: got .*, wanted 2 class indices"),
        (lambda: loss.rbf(torch.zeros(2, 3), torch.zeros(2)), "targets: got .*float32', wanted 2 class indices"),
        (
            lambda: loss.cross_entropy(torch.zeros(3), torch.zeros(3).long()),
            r"outputs: got \(3,\), wanted \(n, classes",
        ),
        (
            lambda: loss.squared_error(torch.zeros(1), torch.zeros(1), reduction="none"),  # type: ignore[arg-type]
            "reduction: got 'none'",
        ),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
