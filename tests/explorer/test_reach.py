"""Receptive fields against gradients of networks with positive weights, and against changes of pixels."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch
from tests.explorer.fixtures import Branching, Residual
from torch import nn

from convscope.errors import UnknownNameError
from convscope.explorer.network import Network
from convscope.explorer.reach import Reach
from convscope.graph.replay import unit_gradient, value_of
from convscope.models import create_model

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lambda: create_model("lenet5", activation="linear"), (1, 28, 28)),
    "branching": (Branching, (1, 14, 10)),
    "residual": (Residual, (3, 9, 9)),
    "strided": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.Conv2d(2, 2, 3, padding=2, dilation=2)
        ),
        (1, 19, 15),
    ),
}


class Reused(nn.Module):
    """One ReLU and one pooling, called three times and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 2)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.relu(self.a(x)))
        z: torch.Tensor = self.relu(self.c(self.pool(self.relu(self.b(y)))))
        return z


CASES["reused"] = (Reused, (1, 19, 15))


def positive(model: nn.Module) -> nn.Module:
    """Weights above zero and no ReLU that could die: then a derivative is zero only where there is no path."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    return model.double().eval()


@pytest.mark.parametrize("case", CASES)
def test_the_box_is_the_extent_of_the_gradient(case: str) -> None:
    build, shape = CASES[case]
    model = positive(build())
    network = Network(model, shape)
    fields = Reach(network)
    x = torch.rand(1, *shape, dtype=torch.float64) * 1e-2
    chosen = random.Random(1)
    for name, node in network.nodes.items():
        if len(node.shape) != 3:
            continue
        for _ in range(6):
            unit = tuple(chosen.randrange(side) for side in node.shape)
            hit = torch.nonzero(unit_gradient(network.graph, x, name, unit)[0].sum(0))
            rows, columns = fields.of_unit(name, unit)["boxes"]["input"]
            assert [int(hit[:, 0].min()), int(hit[:, 0].max()) + 1] == rows
            assert [int(hit[:, 1].min()), int(hit[:, 1].max()) + 1] == columns


@pytest.mark.parametrize("case", CASES)
def test_a_pixel_outside_leaves_the_unit_bit_equal_and_one_inside_reaches_it(case: str) -> None:
    build, shape = CASES[case]
    model = positive(build()).float()
    network = Network(model, shape)
    fields = Reach(network)
    x = torch.rand(1, *shape) * 0.1
    last = [name for name, node in network.nodes.items() if len(node.shape) == 3][-1]
    before = value_of(network.graph, x, last)
    for row, column in itertools.product(range(0, shape[1], 3), range(0, shape[2], 4)):
        changed = x.clone()
        changed[0, 0, row, column] += 5.0
        moved = torch.nonzero((value_of(network.graph, changed, last) != before)[0].any(0))
        rows, columns = fields.of_pixel((row, column))["boxes"].get(last, [[0, 0], [0, 0]])
        for y, z in moved.tolist():
            assert rows[0] <= y < rows[1]
            assert columns[0] <= z < columns[1]
        if len(moved):
            assert [int(moved[:, 0].min()), int(moved[:, 0].max()) + 1] == rows


def test_maps_in_between_and_vectors() -> None:
    network = Network(create_model("lenet5"), (1, 28, 28))
    fields = Reach(network)
    boxes = fields.of_unit("c3", (5, 0, 9))["boxes"]
    assert boxes["s2"] == [[0, 5], [9, 14]]
    assert boxes["c1"] == [[0, 10], [18, 28]]
    assert boxes["input"] == [[0, 12], [16, 28]]
    whole = fields.of_unit("output", (3,))["boxes"]
    assert whole["input"] == [[0, 28], [0, 28]]
    with pytest.raises(UnknownNameError, match="layer: got 'nowhere'"):
        value_of(network.graph, torch.zeros(1, 1, 28, 28), "nowhere")
