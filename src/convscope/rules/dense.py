"""The fully connected layer."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module


@dataclasses.dataclass(frozen=True)
class Dense(Rule):
    """u = W·x + b

        δ_x = Wᵀ·δ,   ∂J/∂W = Σ_n δ·xᵀ,   ∂J/∂b = Σ_n δ

    Xue 2016, eq. (5)(6), (15)(17), (19)(20); Bouvrie 2006, eq. (3)(5)(7). x (n, …, in), W (out, in), b (out,); the sums
    run over all leading dimensions. The factor f′(u) of the sources belongs to the activation's own rule.
    """

    kind = "dense"
    needs = ("x", "weight", "has_bias")
    parameters = ("weight", "bias")

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        if x.shape[-1] != weight.shape[1]:
            raise ArgumentError("x", tuple(x.shape), f"a last dimension of {weight.shape[1]}, one for each column of W")
        u = x @ weight.T  # (…, out)
        if bias is not None:
            u = u + bias
        return u, {"x": x, "weight": weight, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return self.deltas(saved, delta), self.gradients(saved, delta)

    def deltas(self, saved: Saved, delta: Tensor) -> Deltas:
        return (delta @ saved["weight"],)

    def gradients(self, saved: Saved, delta: Tensor) -> Gradients:
        rows = delta.reshape(-1, delta.shape[-1])  # (n, out)
        inputs = saved["x"].reshape(-1, saved["x"].shape[-1])  # (n, in)
        gradients = {"weight": rows.T @ inputs}
        if saved["has_bias"]:
            gradients["bias"] = rows.sum(0)
        return gradients


@rule_for_module(nn.Linear)
def _(module: nn.Linear, x: Tensor) -> Rule:
    return Dense()


@rule_for_function(F.linear)
def _(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Applied | None:
    return Applied(Dense(), (input,), {"weight": weight, "bias": bias}) if weight.ndim == 2 else None
