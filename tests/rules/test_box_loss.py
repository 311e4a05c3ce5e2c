"""Smooth L1 and the loss of class and place: by hand, by finite differences, by torch."""

from __future__ import annotations

import pytest
import torch
from tests.oracles import worst
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules.box_loss import smooth_l1, two_tasks

X = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0], dtype=torch.float64)


def test_smooth_l1_by_hand() -> None:
    value, slope = smooth_l1(X, torch.zeros_like(X))
    assert value.tolist() == [2.5, 0.5, 0.125, 0.0, 0.03125, 0.5, 1.5]
    assert slope.tolist() == [-1, -1, -0.5, 0, 0.25, 1, 1]


@pytest.mark.parametrize("beta", [1.0, 1 / 9, 3.0])
def test_smooth_l1_is_torchs(beta: float) -> None:
    chance = torch.Generator().manual_seed(1)
    y, t = (2 * torch.randn(33, 4, generator=chance, dtype=torch.float64) for _ in range(2))
    leaf = y.clone().requires_grad_()
    expected = F.smooth_l1_loss(leaf, t, beta=beta, reduction="none")
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    value, slope = smooth_l1(y, t, beta)
    assert worst(value, expected.detach()) < 1e-14
    assert worst(slope, gradient) < 1e-14
    assert worst(slope, 1.001 * gradient) > 1e-9


def test_smooth_l1_refuses() -> None:
    with pytest.raises(ArgumentError, match=r"targets: got \(2,\), wanted numbers of the outputs' shape, \(7,\)"):
        smooth_l1(X, torch.zeros(2))
    with pytest.raises(ArgumentError, match="beta: got 0, wanted a number > 0"):
        smooth_l1(X, X, 0)


@pytest.mark.parametrize("balance", [1.0, 0.3])
def test_two_tasks(balance: float) -> None:
    """Against a loop over the regions with torch's own functions; δ against autograd and a finite difference."""
    chance = torch.Generator().manual_seed(2)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    scores, moves, targets = numbers(9, 4), numbers(9, 4, 4), numbers(9, 4)
    labels = torch.tensor([0, 1, 2, 3, 0, 0, 2, 1, 1])
    weights = numbers(9).abs()
    leaves = [scores.clone().requires_grad_(), moves.clone().requires_grad_()]
    total = torch.zeros((), dtype=torch.float64)
    for row, u in enumerate(labels.tolist()):
        total = total - weights[row] * torch.log_softmax(leaves[0][row], 0)[u]
        if u >= 1:
            total = total + balance * weights[row] * F.smooth_l1_loss(leaves[1][row, u], targets[row], reduction="sum")
    expected = torch.autograd.grad(total, leaves)
    by_class, by_place, *deltas = two_tasks(scores, moves, labels, targets, weights, balance)
    assert worst(by_class + by_place, total.detach()) < 1e-14
    for found, wanted in zip(deltas, expected, strict=True):
        assert worst(found, wanted) < 1e-14
    step = torch.zeros_like(moves)
    step[3, 3, 1] = 1e-6
    (_, up, *_), (_, down, *_) = (
        two_tasks(scores, moves + sign * step, labels, targets, weights, balance) for sign in (1, -1)
    )
    assert float((up - down) / 2e-6) == pytest.approx(float(deltas[1][3, 3, 1]), rel=1e-6)
