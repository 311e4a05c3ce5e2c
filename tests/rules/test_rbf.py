"""Euclidean radial-basis units."""

from __future__ import annotations

import pytest
import torch
from tests.oracles import check_rule
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.rbf import EuclideanRBF


def _distances(x: Tensor, weight: Tensor) -> Tensor:
    return torch.stack([((x - code) ** 2).sum(1) for code in weight], 1)


def test_hand_worked() -> None:
    x, codes = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    rule = EuclideanRBF()
    y, saved = rule.forward(x, codes)
    assert y.tolist() == [[4, 4, 0]]
    (delta_x,), gradients = rule.backward(saved, torch.tensor([[1.0, 10.0, 100.0]]))
    assert delta_x is not None
    assert delta_x.tolist() == [[40, -4]]
    assert gradients["weight"].tolist() == [[0, 4], [-40, 0], [0, 0]]


@pytest.mark.parametrize("batch", [1, 16, 33])
def test_lenet_s_sizes(batch: int) -> None:
    x = torch.randn(batch, 84, dtype=torch.float64)
    check_rule(EuclideanRBF(), _distances, [x], {"weight": torch.randn(10, 84, dtype=torch.float64).sign()})


def test_canary() -> None:
    x, codes = torch.randn(2, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(AssertionError, match="forward"):
        check_rule(EuclideanRBF(), lambda x, weight: _distances(x, weight).sqrt(), [x], {"weight": codes})


def test_error() -> None:
    with pytest.raises(ArgumentError, match=r"x: got \(2, 5\), wanted \(n, 4 features\), as long as the codes"):
        EuclideanRBF().forward(torch.zeros(2, 5), torch.zeros(3, 4))
