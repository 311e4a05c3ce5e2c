"""Positions: what tells a token's place to a model that sees all places at once."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved


def sinusoids(places: int, size: int) -> Tensor:
    """P (places, size): P_(t, 2i) = sin(t/10000^(2i/size)),  P_(t, 2i+1) = cos of the same (Vaswani et al. 2017, 3.5).

    Computed in float64, given in float32.
    """
    angles = torch.arange(places, dtype=torch.float64)[:, None] * torch.exp(
        torch.arange(0, size, 2, dtype=torch.float64) * (-math.log(10_000) / size)
    )
    table = torch.zeros(places, size, dtype=torch.float64)
    table[:, 0::2] = torch.sin(angles)
    table[:, 1::2] = torch.cos(angles)[:, : size // 2]
    return table.float()


@dataclasses.dataclass(frozen=True)
class AddPositions(Rule):
    """y_t = x_t + P_t,   δ_(x_t) = δ_t,   ∂J/∂P_t = Σ_n δ_t

    x (n, t, size), P (places, size), sinusoids (a constant) or learned. ArgumentError for a sequence longer than P.
    """

    kind = "positions"
    needs = ("places",)
    parameters = ("weight",)

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Saved]:
        if x.shape[-2] > len(weight) or x.shape[-1] != weight.shape[1]:
            raise ArgumentError("x", tuple(x.shape), f"at most {len(weight)} places of {weight.shape[1]} numbers")
        return x + weight[: x.shape[-2]], {"places": len(weight)}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        gradient = delta.new_zeros(saved["places"], delta.shape[-1])
        gradient[: delta.shape[-2]] = delta.reshape(-1, *delta.shape[-2:]).sum(0)
        return (delta,), {"weight": gradient}
