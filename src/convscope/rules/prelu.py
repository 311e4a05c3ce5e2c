"""The rectifier whose slope below 0 is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.rules.base import (
    Applied,
    Deltas,
    Gradients,
    Rule,
    Saved,
    rule_for_function,
    rule_for_method,
    rule_for_module,
)


@dataclasses.dataclass(frozen=True)
class PReLU(Rule):
    """y = u where u > 0, else a_j·u,   δ_u = δ·1 or δ·a_j,   ∂J/∂a_j = Σ δ·u over map j where u ≤ 0

    He et al. 2015. a is ``weight``: one number for all maps, or one for each map j, which dimension 1 counts.
    """

    kind = "activation"
    needs = ("x", "weight")
    parameters = ("weight",)

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Saved]:
        return torch.where(x > 0, x, self._maps(x, weight) * x), {"x": x, "weight": weight}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        x, weight = saved["x"], saved["weight"]
        below = torch.where(x > 0, torch.zeros_like(x), delta * x)
        over = [d for d in range(x.ndim) if d != 1 or weight.numel() == 1]
        of_weight = below.sum(over) if over else below
        delta_x = torch.where(x > 0, delta, self._maps(x, weight) * delta)
        return (delta_x,), {"weight": of_weight.reshape(weight.shape)}

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return inputs[0], None if delta is None else self.backward(saved, delta)[0][0]

    @staticmethod
    def _maps(x: Tensor, weight: Tensor) -> Tensor:
        """a along dimension 1 of x."""
        return weight.reshape(()) if weight.numel() == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))


@rule_for_module(nn.PReLU)
def _(module: nn.PReLU, input: Tensor) -> Rule:
    return PReLU()


@rule_for_function(F.prelu, torch.prelu)
@rule_for_method("prelu")
def _(input: Tensor, weight: Tensor) -> Applied:
    return Applied(PReLU(), (input,), {"weight": weight})
