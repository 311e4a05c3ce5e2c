"""One naming of calls for every reader of a graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.graph.calls import Names, walk
from convscope.graph.capture import capture
from convscope.graph.replay import value_of
from convscope.inspect import ReceptiveFields
from convscope.rules import tape


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.block(x)) + torch.relu(x)
        return torch.relu(self.block[1](y))


def test_every_reader_uses_the_same_names() -> None:
    model, x = Reused().eval(), torch.randn(1, 2, 5, 4)
    names = ["block.0", "block.1", "block.0:2", "block.1:2", "relu", "add", "block.1:3", "relu_1"]
    graph = capture(model, x)
    name_of = Names()
    assert [name_of(node) for node in graph.graph.nodes if node.op.startswith("call")] == names
    assert [step.name for step in walk(model, (2, 5, 4))] == names
    ran = tape.forward(model, x)
    assert [step.name for step in ran] == names
    assert ReceptiveFields(model, (2, 5, 4)).layers() == names
    for step in ran:
        torch.testing.assert_close(value_of(graph, x, step.name).detach(), step.output)
