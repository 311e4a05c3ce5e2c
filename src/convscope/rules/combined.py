"""Convolution with a learned combination of the input maps."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convscope.rules.base import Deltas, Gradients, Rule, Saved
from convscope.rules.conv import Conv
from convscope.shapes import Pair


@dataclasses.dataclass(frozen=True)
class Combined(Rule):
    """u_j = Σ_i α_ij·v_i + b_j,   v_i = x_i • k_i,   α_ij = e^(c_ij)/Σ_k e^(c_kj)

        δ_v_i = Σ_j α_ij·δ_j,   δ_x_i = full(δ_v_i, rot180 k_i),   ∂J/∂k_i = valid correlation of x_i with δ_v_i
        ∂J/∂α_ij = Σ_uv δ_j·v_i,   ∂J/∂c_ij = α_ij·(∂J/∂α_ij − Σ_k α_kj·∂J/∂α_kj),   ∂J/∂b_j = Σ_uv δ_j

    Bouvrie 2006, section 3.3. x (n, in, h, w), ``weight`` k (in, kh, kw), ``combination`` c (out, in), b (out,).
    """

    kind = "conv"
    needs = ("filtered", "convolution", "alpha", "has_bias")
    parameters = ("weight", "combination", "bias")

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def forward(
        self, x: Tensor, weight: Tensor, combination: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Saved]:
        filtered, convolution = self._filter(len(weight)).forward(x, weight.unsqueeze(1))  # (n, in, h', w')
        e = torch.exp(combination - combination.amax(1, keepdim=True))
        alpha = e / e.sum(1, keepdim=True)
        u = torch.einsum("ji,nihw->njhw", alpha, filtered)
        u = u if bias is None else u + bias[:, None, None]
        return u, {"filtered": filtered, "convolution": convolution, "alpha": alpha, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        alpha = saved["alpha"]
        deltas, gradients = self._filter(alpha.shape[1]).backward(
            saved["convolution"], torch.einsum("ji,njhw->nihw", alpha, delta)
        )
        of_alpha = torch.einsum("njhw,nihw->ji", delta, saved["filtered"])
        found = {
            "weight": gradients["weight"].squeeze(1),
            "combination": alpha * (of_alpha - (alpha * of_alpha).sum(1, keepdim=True)),
        }
        if saved["has_bias"]:
            found["bias"] = delta.sum((0, 2, 3))
        return deltas, found

    def _filter(self, in_channels: int) -> Conv:
        return Conv(2, self.stride, self.padding, self.dilation, groups=in_channels)
