"""Convergence and explosion, on hand-made sequences and broken networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convscope.training.stopping import LossGuard, converged, first_broken_layer


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([1.0, 1.0], False),
        ([1.0, 1.05, 1.0, 1.05], True),
        ([5.0, 1.0, 1.05, 1.0], False),
        ([5.0, 1.0, 1.05, 1.0, 1.02], True),
        ([1.0, 1.0, 1.0, 0.5], False),
        ([1.0, 1.1, 1.0, 1.1], False),
    ],
)
def test_converged_looks_at_the_last_changes(losses: list[float], expected: bool) -> None:
    assert converged(losses, 0.1 - 1e-9, 3) is expected
    assert not converged(losses, 0.0, 3)


def test_the_guard_knows_explosions_from_bad_luck() -> None:
    guard = LossGuard()
    assert not guard.broken(2.3)
    assert not guard.broken(230.0)
    assert guard.broken(2.4e4)
    assert guard.broken(float("nan"))
    assert guard.broken(float("inf"))
    assert LossGuard().broken(float("nan"))
    small = LossGuard()
    assert not small.broken(1e-6)
    assert not small.broken(5.0), "a loss near 0 at the start may rise to ordinary values"


def test_the_broken_layer_is_named() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.ones(2, 3)
    assert "layer '0' has the largest output" in first_broken_layer(net, [x * 100])
    with torch.no_grad():
        net.get_parameter("0.weight").fill_(3e38)
    assert first_broken_layer(net, [x * 100]) == "layer '0' is the first whose output is not finite"
    with torch.no_grad():
        net.get_parameter("2.weight")[0, 0] = float("nan")
    assert first_broken_layer(net, [x]) == "the weights '2.weight' are no longer finite"
    assert not any(module._forward_hooks for module in net.modules())
