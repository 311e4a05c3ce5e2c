"""What outputs say of the classes, by how the network ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.inspect.outputs import ending, probabilities
from convscope.layers.losses import LOSSES
from convscope.rules import tape


class Ends(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.linear, self.end = nn.Linear(3, 4), end

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.end(self.linear(x))
        return y


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (nn.Identity(), lambda z: z.softmax(1)),
        (nn.Softmax(1), lambda z: z.softmax(1)),
        (lambda z: F.softmax(z, dim=1), lambda z: z.softmax(1)),
        (lambda z: z.softmax(-1), lambda z: z.softmax(1)),
        (lambda z: F.log_softmax(z, dim=1), lambda z: z.softmax(1)),
        (nn.Sigmoid(), lambda z: z.sigmoid() / z.sigmoid().sum(1, keepdim=True)),
        (lambda z: z.sigmoid_(), lambda z: z.sigmoid() / z.sigmoid().sum(1, keepdim=True)),
        (nn.Tanh(), lambda z: (z.tanh() + 1) / (z.tanh() + 1).sum(1, keepdim=True)),
        (nn.ReLU(), lambda z: z.relu().softmax(1)),
    ],
)
def test_probabilities(end: Any, expected: Any) -> None:
    torch.manual_seed(0)
    model, x = Ends(end).double(), torch.randn(5, 3, dtype=torch.float64)
    ran = tape.forward(model, x)
    found = probabilities(ran.output, LOSSES["cross_entropy"], ending(ran, ran.output))
    torch.testing.assert_close(found, expected(model.linear(x)).detach())
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))


def test_outputs_that_say_nothing_are_shared_out_evenly() -> None:
    model = Ends(nn.Sigmoid())
    ran = tape.forward(model, torch.full((1, 3), float("-inf")).nan_to_num(neginf=-1e30))
    zero = torch.zeros(1, 4)
    assert probabilities(zero, LOSSES["cross_entropy"], ending(ran, ran.output)).tolist() == [[0.25] * 4]


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.Sigmoid(), nn.Identity()])
def test_distances_are_small_for_the_class_said(end: Any) -> None:
    """However the network ends, what the loss takes for distances is no share of a class."""
    torch.manual_seed(0)
    ran = tape.forward(Ends(end).double(), torch.randn(5, 3, dtype=torch.float64))
    found = probabilities(ran.output, LOSSES["rbf"], ending(ran, ran.output))
    torch.testing.assert_close(found, (-ran.output.detach()).softmax(1))
