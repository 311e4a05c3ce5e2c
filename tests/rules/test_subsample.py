"""Trainable subsampling, LeNet-5's S2 and S4."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.activation import Linear, ScaledTanh, Sigmoid
from convscope.rules.elementwise import Elementwise
from convscope.rules.rectifier import ReLU
from convscope.rules.subsample import Subsample


def test_hand_worked() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    rule = Subsample(2)
    y, saved = rule.forward(x, torch.tensor([0.5]), torch.tensor([1.0]))
    assert y.item() == 6  # ½·(1 + 2 + 3 + 4) + 1
    (delta_x,), gradients = rule.backward(saved, torch.tensor([[[[2.0]]]]))
    assert delta_x is not None
    assert delta_x.flatten().tolist() == [1, 1, 1, 1]
    assert gradients["weight"].tolist() == [20]
    assert gradients["bias"].tolist() == [2]


ACTIVATIONS: list[tuple[Elementwise, Any]] = [
    (Linear(), lambda u: u),
    (Sigmoid(), torch.sigmoid),
    (ScaledTanh(), lambda u: 1.7159 * torch.tanh(2 / 3 * u)),
    (ReLU(), torch.relu),
]


@pytest.mark.parametrize(("activation", "function"), ACTIVATIONS, ids=[str(a) for a, _ in ACTIVATIONS])
@pytest.mark.parametrize("sizes", [(2, None), ((3, 2), (2, 1))])
@pytest.mark.parametrize("batch", [1, 17])
def test_against_torch(activation: Elementwise, function: Any, sizes: tuple[Any, Any], batch: int) -> None:
    def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        down = F.avg_pool2d(x, sizes[0], sizes[1], divisor_override=1)
        y: Tensor = function(weight[:, None, None] * down + bias[:, None, None])
        return y

    parameters = {name: torch.randn(3, dtype=torch.float64) for name in ("weight", "bias")}
    x = torch.randn(batch, 3, 6, 5, dtype=torch.float64)
    check_rule(Subsample(*sizes, activation=activation), reference, [x], parameters)


def test_one_dimension() -> None:
    parameters = {name: torch.randn(2, dtype=torch.float64) for name in ("weight", "bias")}

    def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return weight[:, None] * F.avg_pool1d(x, 3) * 3 + bias[:, None]

    check_rule(Subsample(3, dims=1), reference, [torch.randn(4, 2, 9, dtype=torch.float64)], parameters)


def test_u_is_before_the_activation() -> None:
    x, weight, bias = torch.randn(2, 3, 4, 4), torch.randn(3), torch.randn(3)
    rule = Subsample(2, activation=Sigmoid())
    y, saved = rule.forward(x, weight, bias)
    u, delta_u = rule.at_u(saved, (x,), y, torch.ones_like(y))
    torch.testing.assert_close(torch.sigmoid(u), y)
    torch.testing.assert_close(delta_u, y * (1 - y))


def test_canary() -> None:
    """S2's sum is not a mean."""
    parameters = {name: torch.randn(1, dtype=torch.float64) for name in ("weight", "bias")}
    with pytest.raises(AssertionError, match="forward"):
        check_rule(
            Subsample(2),
            lambda x, weight, bias: weight * F.avg_pool2d(x, 2) + bias,
            [torch.randn(1, 1, 4, 4, dtype=torch.float64)],
            parameters,
        )


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"x: got \(1, 3, 4, 4\), wanted \(n, 2 channels, 2 spatial sizes\)"):
        Subsample(2).forward(torch.zeros(1, 3, 4, 4), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ArgumentError, match="kernel_size: got 0"):
        Subsample(0)
