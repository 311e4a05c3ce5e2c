"""Convolution whose kernels are shared within regions of the output map only."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convscope.rules.base import Deltas, Gradients, Rule, Saved
from convscope.rules.windows import Edges, pad, unpad, unwindow, windows
from convscope.shapes import Pair


@dataclasses.dataclass(frozen=True)
class LocallyShared(Rule):
    """u_j(p) = Σ_i Σ_ab k_ij^r[a,b]·x_i(s·p + (a,b)) + b_j^r   for places p in region r

        δ_x_i(q) = Σ_j Σ_{p, a: s·p + a = q} k_ij^r[a]·δ_j(p)      (each place with its own region's kernel)
        ∂J/∂k_ij^r[a] = Σ_{p ∈ r} δ_j(p)·x_i(s·p + a),   ∂J/∂b_j^r = Σ_{p ∈ r} δ_j(p)

    Sun, Wang, Tang 2014 (DeepID). It is convolution's (27) and (24) with the sums cut at the regions' borders.
    """

    kind = "conv"
    needs = ("seen", "kernels", "size", "has_bias")
    parameters = ("weight", "bias")

    region_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        padded = pad(x, self._edges())
        seen = windows(padded, tuple(weight.shape[-2:]), self.stride, (1, 1))  # (n, in, h', w', kh, kw)
        size = seen.shape[2:4]
        kernels = self._to_places(weight, size, 0)  # (h', w', out, in, kh, kw)
        u = torch.einsum("nchwij,hwocij->nohw", seen, kernels)
        u = u if bias is None else u + self._to_places(bias, size, 1)
        return u, {"seen": seen, "kernels": kernels, "size": padded.shape[2:], "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        parts = torch.einsum("nohw,hwocij->nchwij", delta, saved["kernels"])
        delta_x = unpad(unwindow(parts, saved["size"], self.stride, (1, 1)), self._edges())
        each_place = torch.einsum("nohw,nchwij->hwocij", delta, saved["seen"])
        gradients = {"weight": self._to_regions(each_place, 0)}
        if saved["has_bias"]:
            gradients["bias"] = self._to_regions(delta.sum(0), 1)
        return (delta_x,), gradients

    def _edges(self) -> Edges:
        return tuple((p, p) for p in self.padding)

    def _to_places(self, values: Tensor, size: torch.Size, first: int) -> Tensor:
        """Each region's value repeated for its places, along dimensions ``first`` and ``first`` + 1."""
        for axis in (0, 1):
            values = values.repeat_interleave(self.region_size[axis], first + axis).narrow(first + axis, 0, size[axis])
        return values

    def _to_regions(self, values: Tensor, first: int) -> Tensor:
        """The adjoint of ``_to_places``: sums over each region's places."""
        for axis in (0, 1):
            dim = first + axis
            parts = torch.split(values, self.region_size[axis], dim)
            values = torch.stack([part.sum(dim) for part in parts], dim)
        return values
