"""Columns and lanes from the graph: nothing about one network is built in."""

from __future__ import annotations

import torch
from tests.explorer.fixtures import Branching, Residual
from torch import nn

from convscope.explorer.layout import lay_out
from convscope.explorer.network import Network
from convscope.models import create_model


def test_every_edge_goes_to_a_later_column() -> None:
    for model, shape in ((Residual(), (3, 9, 9)), (Branching(), (1, 14, 10)), (create_model("lenet5"), (1, 28, 28))):
        laid = lay_out(Network(model, shape))
        rank = {item["name"]: item["rank"] for item in laid["items"]}
        assert all(rank[before] < rank[after] for before, after in laid["edges"])
        places = [(item["rank"], item["lane"]) for item in laid["items"]]
        assert len(set(places)) == len(places)


def test_branches_share_a_column_and_a_residual_skips() -> None:
    branching = {item["name"]: item for item in lay_out(Network(Branching(), (1, 14, 10)))["items"]}
    assert branching["grouped"]["rank"] == branching["dilated"]["rank"]
    assert branching["grouped"]["lane"] != branching["dilated"]["lane"]
    laid = lay_out(Network(Residual(), (3, 9, 9)))
    rank = {item["name"]: item["rank"] for item in laid["items"]}
    assert max(rank[after] - rank[before] for before, after in laid["edges"]) == 2


def test_long_networks_fold_into_blocks_and_unfold() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.relu(self.norm(self.conv(x)) + x)
            return y

    network = Network(nn.Sequential(*[Block() for _ in range(20)]), (4, 5, 5))
    laid = lay_out(network)
    assert len(network.nodes) == 80
    assert len(laid["items"]) == 21
    assert {len(item["members"]) for item in laid["items"][1:]} == {4}
    opened = lay_out(network, ["3"])
    assert len(opened["items"]) == 24
    rank = {item["name"]: item["rank"] for item in opened["items"]}
    assert all(rank[before] < rank[after] for before, after in opened["edges"])
