"""Long short-term memory (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convscope.rules.base import Applied, rule_for_module
from convscope.rules.recurrent import Recurrent, State, apply_recurrent


@dataclasses.dataclass(frozen=True)
class LSTM(Recurrent):
    """c_t = f·c_(t−1) + i·g,   h_t = o·tanh(c_t)

        (i, f, g, o) = (σ, σ, tanh, σ)(W_ih·x_t + b_ih + W_hh·h_(t−1) + b_hh), the rows of u_t in this order
        δ_o = δ_(h_t)·tanh(c_t),   δ_(c_t) += δ_(h_t)·o·(1 − tanh²(c_t))
        δ_i = δ_(c_t)·g,   δ_f = δ_(c_t)·c_(t−1),   δ_g = δ_(c_t)·i,   δ_(c_(t−1)) = δ_(c_t)·f
        δ_(u_t) = (δ_i·i(1 − i), δ_f·f(1 − f), δ_g·(1 − g²), δ_o·o(1 − o))
        δ_(h_(t−1)) += W_hhᵀ·δ_(u_t),   δ_(x_t) = W_ihᵀ·δ_(u_t)
        ∂J/∂W_ih = Σ_t δ_(u_t)·x_tᵀ,   ∂J/∂W_hh = Σ_t δ_(u_t)·h_(t−1)ᵀ,   ∂J/∂b_ih = ∂J/∂b_hh = Σ_t δ_(u_t)

    Hochreiter and Schmidhuber 1997, with the forget gate f of Gers et al. 2000. Where there is a projection W_hr (Sak
    et al. 2014), h_t = W_hr·m with m = o·tanh(c_t): δ_m = W_hrᵀ·δ_(h_t), ∂J/∂W_hr = Σ_t δ_(h_t)·mᵀ. Layers, directions
    and lengths: see ``Recurrent``.
    """

    gates: ClassVar[int] = 4
    parts: ClassVar[int] = 2

    def step(self, a: Tensor, before: State, weights: Mapping[str, Tensor]) -> tuple[State, Any]:
        i, f, g, o = (a + self.recurrent(before, weights)).chunk(4, 1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = f * before[1] + i * g
        bent = torch.tanh(c)
        m = o * bent
        h = m @ weights["weight_hr"].T if "weight_hr" in weights else m
        return (h, c), (i, f, g, o, before[1], bent, m)

    def back(
        self, kept: Any, delta: State, weights: Mapping[str, Tensor], found: dict[str, list[Tensor]]
    ) -> tuple[Tensor, Tensor, State]:
        i, f, g, o, c_before, bent, m = kept
        to_m = delta[0]
        if "weight_hr" in weights:
            found.setdefault("weight_hr", []).append(delta[0].T @ m)
            to_m = delta[0] @ weights["weight_hr"]
        to_c = delta[1] + to_m * o * (1 - bent * bent)
        to_u = torch.cat(
            (
                to_c * g * i * (1 - i),
                to_c * c_before * f * (1 - f),
                to_c * i * (1 - g * g),
                to_m * bent * o * (1 - o),
            ),
            1,
        )
        return to_u, to_u, (torch.zeros_like(delta[0]), to_c * f)


@rule_for_module(nn.LSTM)
def _(module: nn.LSTM, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> Applied:
    return apply_recurrent(LSTM, module, input, hx)
