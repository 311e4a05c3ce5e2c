"""The plain recurrent layer (Elman 1990)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convscope.rules.base import Applied, rule_for_module
from convscope.rules.recurrent import Recurrent, State, apply_recurrent


@dataclasses.dataclass(frozen=True)
class RNN(Recurrent):
    """h_t = f(u_t),   u_t = W_ih·x_t + b_ih + W_hh·h_(t−1) + b_hh,   f = tanh or ReLU

        δ_(u_t) = δ_(h_t)·f′(u_t),   δ_(h_(t−1)) += W_hhᵀ·δ_(u_t),   δ_(x_t) = W_ihᵀ·δ_(u_t)
        ∂J/∂W_ih = Σ_t δ_(u_t)·x_tᵀ,   ∂J/∂W_hh = Σ_t δ_(u_t)·h_(t−1)ᵀ,   ∂J/∂b_ih = ∂J/∂b_hh = Σ_t δ_(u_t)

    Elman 1990. Layers, directions and lengths: see ``Recurrent``.
    """

    nonlinearity: str = "tanh"

    def step(self, a: Tensor, before: State, weights: Mapping[str, Tensor]) -> tuple[State, Any]:
        u = a + self.recurrent(before, weights)
        h = torch.tanh(u) if self.nonlinearity == "tanh" else u.clamp(min=0)
        return (h,), h

    def back(
        self, kept: Any, delta: State, weights: Mapping[str, Tensor], found: dict[str, list[Tensor]]
    ) -> tuple[Tensor, Tensor, State]:
        h = kept
        to_u = delta[0] * ((1 - h * h) if self.nonlinearity == "tanh" else (h > 0).to(h.dtype))
        return to_u, to_u, (torch.zeros_like(to_u),)


@rule_for_module(nn.RNN)
def _(module: nn.RNN, input: Any, hx: Tensor | None = None) -> Applied:
    return apply_recurrent(RNN, module, input, hx, nonlinearity=module.nonlinearity)
