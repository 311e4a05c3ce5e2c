"""Transposed convolution ("deconvolution"): a convolution's backward pass used as a forward pass."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module
from convscope.rules.conv import correlate, full_correlation, kernel_gradient, plain
from convscope.rules.windows import last, pad, unpad
from convscope.shapes import full


@dataclasses.dataclass(frozen=True)
class ConvTranspose(Rule):
    """u_i = Σ_j full(x_j, rot180 k_ji) + b_i:   the map that takes a convolution's δ back, as the forward pass

        δ_j = Σ_i δ_i • k_ji,   ∂J/∂k_ji = valid correlation of δ_i with x_j,   ∂J/∂b_i = Σ_uv (δ_i)_uv

    Xue 2016, eq. (27) and (1)(24) with the roles of map and sensitivity exchanged; Zeiler et al. 2010, Long et al.
    2015. x (n, in, *size), k (in, out/groups, *kernel). The output has
    (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1 positions: ``padding`` cuts them off,
    ``output_padding`` (less than the stride or the dilation) adds positions at the far edge.
    """

    kind = "conv_transpose"
    needs = ("x", "weight", "has_bias")
    parameters = ("weight", "bias")

    dims: int
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def __post_init__(self) -> None:
        for name, minimum in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1)):
            object.__setattr__(self, name, full(getattr(self, name), self.dims, name, minimum))
        for extra, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(s, d):
                raise ArgumentError("output_padding", extra, f"less than the stride {s} or the dilation {d}")

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        if x.ndim != self.dims + 2 or x.shape[1] != weight.shape[0]:
            raise ArgumentError("x", tuple(x.shape), f"(n, {weight.shape[0]} channels, {self.dims} spatial sizes)")
        padded = tuple(
            (n - 1) * s + d * (k - 1) + extra + 1
            for n, s, d, k, extra in zip(
                x.shape[2:], self.stride, self.dilation, weight.shape[2:], self.output_padding, strict=True
            )
        )
        if any(n <= 2 * p for n, p in zip(padded, self.padding, strict=True)):
            raise ArgumentError("padding", self.padding, f"less than half of the {padded} positions before cutting off")
        u = full_correlation(x, weight, padded, self.stride, self.dilation, self.groups)
        u = unpad(u, self._edges())
        if bias is not None:
            u = u + bias.reshape(-1, *(1,) * self.dims)
        return u, {"x": x, "weight": weight, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        x, weight = saved["x"], saved["weight"]
        padded = pad(delta, self._edges())
        reach = tuple(
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(x.shape[2:], self.stride, self.dilation, weight.shape[2:], strict=True)
        )
        seen = padded[last([slice(n) for n in reach])]  # without the output padding, which no input reaches
        delta_x = correlate(seen, weight, self.stride, self.dilation, self.groups)
        gradients = {"weight": kernel_gradient(seen, x, weight.shape[2:], self.stride, self.dilation, self.groups)}
        if saved["has_bias"]:
            gradients["bias"] = delta.sum((0, *range(2, delta.ndim)))
        return (delta_x,), gradients

    def _edges(self) -> tuple[tuple[int, int], ...]:
        return tuple((p, p) for p in self.padding)


@rule_for_module(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _(module: nn.ConvTranspose2d, x: Tensor, output_size: Any = None) -> Rule | None:
    dims = len(module.kernel_size)
    if x.ndim != dims + 2 or output_size is not None:
        return None
    return ConvTranspose(dims, module.stride, module.padding, module.output_padding, module.dilation, module.groups)


def _bind_function(dims: int) -> None:
    @rule_for_function((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1])
    def _(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Applied | None:
        if input.ndim != dims + 2:
            return None
        rule = ConvTranspose(dims, plain(stride), plain(padding), plain(output_padding), plain(dilation), groups)
        return Applied(rule, (input,), {"weight": weight, "bias": bias})


for _dims in (1, 2, 3):
    _bind_function(_dims)
