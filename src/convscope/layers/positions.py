"""Layers that add a token's place to its embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules.base import Applied, rule_for_module
from convscope.rules.positions import AddPositions, sinusoids


class PositionalEncoding(nn.Module):
    """y_t = x_t + P_t with sinusoids P of every wavelength from 2π to 20000π (Vaswani et al. 2017, 3.5).

    Input and output (n, t, size); ArgumentError for more than ``places`` places. Nothing is learned.
    """

    weight: Tensor

    def __init__(self, size: int, places: int = 512) -> None:
        super().__init__()
        self.size = whole_number(size, "size")
        self.places = whole_number(places, "places")
        self.register_buffer("weight", sinusoids(places, size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + _first(self.weight, x)

    def extra_repr(self) -> str:
        return f"size={self.size}, places={self.places}"


class LearnedPositions(nn.Module):
    """y_t = x_t + P_t with a learned row P_t for every place (Gehring et al. 2017).

    Input and output (n, t, size); ArgumentError for more than ``places`` places.
    """

    def __init__(self, size: int, places: int = 512) -> None:
        super().__init__()
        self.size = whole_number(size, "size")
        self.places = whole_number(places, "places")
        self.weight = nn.Parameter(torch.empty(places, size))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + _first(self.weight, x)

    def extra_repr(self) -> str:
        return f"size={self.size}, places={self.places}"


def _first(weight: Tensor, x: Tensor) -> Tensor:
    if x.shape[-2] > len(weight) or x.shape[-1] != weight.shape[1]:
        raise ArgumentError("x", tuple(x.shape), f"at most {len(weight)} places of {weight.shape[1]} numbers")
    return weight[: x.shape[-2]]


@rule_for_module(PositionalEncoding, LearnedPositions)
def _(module: PositionalEncoding | LearnedPositions, x: Tensor) -> Applied:
    return Applied(AddPositions(), (x,), {"weight": module.weight})
