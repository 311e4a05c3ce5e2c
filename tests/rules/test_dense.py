"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule

from convscope.errors import ArgumentError
from convscope.rules.dense import Dense


def test_hand_worked() -> None:
    """Bouvrie 2006, eq. (5) and (7): δ back through Wᵀ, the gradient an outer product."""
    x, W, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]), torch.tensor([0.5, 0, 1])
    u, saved = Dense().forward(x, W, b)
    assert u.tolist() == [[11.5, 17, 24]]
    (delta_x,), gradients = Dense().backward(saved, torch.tensor([[1.0, 10.0, 100.0]]))
    assert delta_x is not None
    assert delta_x.tolist() == [[753, 864]]
    assert gradients["weight"].tolist() == [[1, 2], [10, 20], [100, 200]]
    assert gradients["bias"].tolist() == [1, 10, 100]


@pytest.mark.parametrize("leading", [(1,), (15,), (17,), (33,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_against_torch(leading: tuple[int, ...], bias: bool) -> None:
    parameters = {"weight": torch.randn(3, 17, dtype=torch.float64)}
    if bias:
        parameters["bias"] = torch.randn(3, dtype=torch.float64)
    check_rule(Dense(), F.linear, [torch.randn(*leading, 17, dtype=torch.float64)], parameters)


def test_canary() -> None:
    class Wrong(Dense):
        def backward(self, saved: Any, delta: Any) -> Any:
            deltas, gradients = super().backward(saved, delta)
            return deltas, {"weight": gradients["weight"] / len(delta)}

    x, W = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="weight against autograd"):
        check_rule(Wrong(), F.linear, [x], {"weight": W})


def test_error() -> None:
    with pytest.raises(ArgumentError, match=r"x: got \(2, 4\), wanted a last dimension of 3"):
        Dense().forward(torch.zeros(2, 4), torch.zeros(5, 3))
