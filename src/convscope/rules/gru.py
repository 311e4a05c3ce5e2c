"""The gated recurrent unit (Cho et al. 2014)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convscope.rules.base import Applied, rule_for_module
from convscope.rules.recurrent import Recurrent, State, apply_recurrent


@dataclasses.dataclass(frozen=True)
class GRU(Recurrent):
    """h_t = (1 − z)·n + z·h_(t−1),   n = tanh(a_n + r·q_n),   r = σ(a_r + q_r),   z = σ(a_z + q_z)

        a = W_ih·x_t + b_ih,   q = W_hh·h_(t−1) + b_hh,   their rows in the order r, z, n
        δ_n = δ_(h_t)·(1 − z)·(1 − n²),   δ_z = δ_(h_t)·(h_(t−1) − n)·z(1 − z),   δ_r = δ_n·q_n·r(1 − r)
        δ_a = (δ_r, δ_z, δ_n),   δ_q = (δ_r, δ_z, δ_n·r)
        δ_(h_(t−1)) = δ_(h_t)·z + W_hhᵀ·δ_q,   δ_(x_t) = W_ihᵀ·δ_a
        ∂J/∂W_ih = Σ_t δ_a·x_tᵀ,   ∂J/∂b_ih = Σ_t δ_a,   ∂J/∂W_hh = Σ_t δ_q·h_(t−1)ᵀ,   ∂J/∂b_hh = Σ_t δ_q

    Cho et al. 2014, with the reset gate r behind the product, as torch and cuDNN have it. Layers, directions and
    lengths: see ``Recurrent``.
    """

    gates: ClassVar[int] = 3

    def step(self, a: Tensor, before: State, weights: Mapping[str, Tensor]) -> tuple[State, Any]:
        (h,) = before
        a_r, a_z, a_n = a.chunk(3, 1)
        q_r, q_z, q_n = self.recurrent(before, weights).chunk(3, 1)
        r, z = torch.sigmoid(a_r + q_r), torch.sigmoid(a_z + q_z)
        n = torch.tanh(a_n + r * q_n)
        return ((1 - z) * n + z * h,), (r, z, n, q_n, h)

    def back(
        self, kept: Any, delta: State, weights: Mapping[str, Tensor], found: dict[str, list[Tensor]]
    ) -> tuple[Tensor, Tensor, State]:
        r, z, n, q_n, h = kept
        to_n = delta[0] * (1 - z) * (1 - n * n)
        to_z = delta[0] * (h - n) * z * (1 - z)
        to_r = to_n * q_n * r * (1 - r)
        return torch.cat((to_r, to_z, to_n), 1), torch.cat((to_r, to_z, to_n * r), 1), (delta[0] * z,)


@rule_for_module(nn.GRU)
def _(module: nn.GRU, input: Any, hx: Tensor | None = None) -> Applied:
    return apply_recurrent(GRU, module, input, hx)
