"""Convolution in one, two or three dimensions: forward, sensitivity and kernel gradient."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import long_sums
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module
from convscope.rules.connections import Table, gather_kernels, scatter_kernels, whole_table
from convscope.rules.padding import MODES, pad_by, unpad_by
from convscope.rules.windows import Edges, Sizes, last, rotate180, windows
from convscope.shapes import conv_output_size, full

_SPACE, _KERNEL = "xyz", "uvw"  # einsum letters of the output's and the kernel's dimensions


@dataclasses.dataclass(frozen=True)
class Conv(Rule):
    """u_j = Σ_{i ∈ M_j} x_i • k_ij + b_j   (• slides the kernel over every position; "valid" edges)

        δ_i      = Σ_j full(δ_j, rot180 k_ij)
        ∂J/∂k_ij = valid(x_i, δ_j), summed over the batch   (rotated: rot180(x_i • rot180 δ_j))
        ∂J/∂b_j  = Σ_uv (δ_j)_uv

    full correlates beyond the edges, valid only inside them; the form in brackets is that of a true convolution.
    Xue 2016, eq. (1)(27)(24)(44); Bouvrie 2006, eq. (9). x (n, in, *size), k (out, in/groups, *kernel), b (out,);
    the output has ⌊(size + 2·padding − dilation·(kernel − 1) − 1)/stride⌋ + 1 positions. With a stride the δ map
    counts as spread out with stride − 1 zeros between neighbours, and a dilated kernel's taps stand ``dilation`` apart:
    the same equations then hold. The factor f′(u) of (27) belongs to the activation's own rule.

    In float32 on the processor the sums of a layer of more than ``long_sums.LONG`` products for each example are left
    to torch's routines for the same three equations (no autograd; VGG-16 by windows and taps takes four times as long).

    ``padding`` is a number, one per dimension, (before, after) pairs, "valid" or "same" (stride 1; an odd total puts
    the extra zero at the far edge). ``table`` is M: for each output map the tuple of its input maps; the kernels are
    then either compact, (Σ_j |M_j|, *kernel) in the table's order, or (out, in, *kernel), of which only the connected
    ones count. ``true_convolution`` rotates the kernel by 180° first: the convolution of mathematics (MATLAB's conv2)
    instead of the cross-correlation of most CNN programs. ``padding_mode`` fills the frame with "zeros", or copies into
    it: "reflect", "replicate", "circular".
    """

    kind = "conv"
    needs = ("x", "weight", "compact", "has_bias")
    parameters = ("weight", "bias")

    dims: int
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    table: Table | None = None
    true_convolution: bool = False
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", full(self.stride, self.dims, "stride"))
        object.__setattr__(self, "dilation", full(self.dilation, self.dims, "dilation"))
        object.__setattr__(self, "padding", _whole_padding(self.padding, self.dims))
        if self.padding_mode not in MODES:
            raise ArgumentError("padding_mode", self.padding_mode, f"one of {', '.join(MODES)}")
        if self.padding == "same" and self.stride != (1,) * self.dims:
            raise ArgumentError("padding", "same", "a number of zeros, since the stride is not 1")
        if self.table is not None:
            object.__setattr__(self, "table", whole_table(self.table))
            if self.groups != 1:
                raise ArgumentError("groups", self.groups, "1, since a connection table is given")

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        kernels, compact = self._dense_kernels(x, weight)  # (out, in/groups, *kernel)
        self._check(x, kernels)
        u = correlate(
            pad_by(x, self._edges(kernels), self.padding_mode), kernels, self.stride, self.dilation, self.groups
        )
        if bias is not None:
            u += bias.reshape(-1, *(1,) * self.dims)
        return u, {"x": x, "weight": kernels, "compact": compact, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return self.deltas(saved, delta), self.gradients(saved, delta)

    def deltas(self, saved: Saved, delta: Tensor) -> Deltas:
        x, kernels = saved["x"], saved["weight"]
        edges = self._edges(kernels)
        size = [n + before + after for n, (before, after) in zip(x.shape[2:], edges, strict=True)]
        delta_padded = full_correlation(delta, kernels, size, self.stride, self.dilation, self.groups)  # (27)
        return (unpad_by(delta_padded, edges, self.padding_mode),)

    def gradients(self, saved: Saved, delta: Tensor) -> Gradients:
        kernels = saved["weight"]
        padded = pad_by(saved["x"], self._edges(kernels), self.padding_mode)
        gradient = kernel_gradient(padded, delta, kernels.shape[2:], self.stride, self.dilation, self.groups)  # (24)
        gradients = {"weight": self._own_kernels(gradient, saved["compact"])}
        if saved["has_bias"]:
            gradients["bias"] = delta.sum((0, *range(2, delta.ndim)))
        return gradients

    def _dense_kernels(self, x: Tensor, weight: Tensor) -> tuple[Tensor, bool]:
        compact = self.table is not None and weight.ndim == self.dims + 1
        if self.table is not None:
            in_channels = x.shape[1] if compact else weight.shape[1]
            weight = scatter_kernels(weight, self.table, in_channels) if compact else weight
            weight = scatter_kernels(gather_kernels(weight, self.table), self.table, in_channels)
        return (rotate180(weight, self.dims) if self.true_convolution else weight), compact

    def _own_kernels(self, gradient: Tensor, compact: bool) -> Tensor:
        gradient = rotate180(gradient, self.dims) if self.true_convolution else gradient
        if self.table is None:
            return gradient
        own = gather_kernels(gradient, self.table)
        return own if compact else scatter_kernels(own, self.table, gradient.shape[1])

    def _edges(self, kernels: Tensor) -> Edges:
        if self.padding != "same":
            edges: Edges = self.padding
            return edges
        total = [d * (k - 1) for d, k in zip(self.dilation, kernels.shape[2:], strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)

    def _check(self, x: Tensor, kernels: Tensor) -> None:
        if x.ndim != self.dims + 2:
            raise ArgumentError("x", tuple(x.shape), f"(n, channels, {self.dims} spatial sizes)")
        if kernels.ndim != self.dims + 2:
            raise ArgumentError("weight", tuple(kernels.shape), f"(out, in/groups, {self.dims} kernel sizes)")
        out, within = kernels.shape[:2]
        if x.shape[1] != within * self.groups:
            raise ArgumentError("x", tuple(x.shape), f"{within * self.groups} channels, as the kernels have")
        if out % self.groups:
            raise ArgumentError("groups", self.groups, f"a divisor of the {out} output maps")
        for n, k, s, d, (b, a) in zip(
            x.shape[2:], kernels.shape[2:], self.stride, self.dilation, self._edges(kernels), strict=True
        ):
            conv_output_size(n + b + a, k, s, 0, d)


def correlate(x: Tensor, kernels: Tensor, stride: Sizes, dilation: Sizes, groups: int = 1) -> Tensor:
    """Σ_i Σ_ab k_ij[a,b]·x_i[s·u + d·a, s·v + d·b], no padding: (n, in, *size) → (n, out, *positions)."""
    dims = len(stride)
    space, kernel = _SPACE[:dims], _KERNEL[:dims]
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])  # (n, g, in/g, *size)
    split = kernels.reshape(groups, -1, *kernels.shape[1:])  # (g, out/g, in/g, *kernel)
    seen = windows(grouped, tuple(kernels.shape[2:]), stride, dilation)  # (n, g, in/g, *positions, *kernel)
    if long_sums.are_long(x, kernels.shape, seen.shape[3 : 3 + dims]):
        return long_sums.correlate(x, kernels, stride, dilation, groups)
    return torch.einsum(f"ngi{space}{kernel},gji{kernel}->ngj{space}", seen, split).flatten(1, 2).contiguous()


def full_correlation(
    delta: Tensor, kernels: Tensor, size: Sequence[int], stride: Sizes, dilation: Sizes, groups: int = 1
) -> Tensor:
    """Eq. (27), tap by tap: δ_i[s·u + d·a] += k_ij[a]·δ_j[u], which at stride 1 is full(δ_j, rot180 k_ij).

    Input and output maps change places: δ (n, out, *positions) → (n, in, *size). Positions of ``size`` that no window
    reached, because the stride does not divide it, stay zero. (Laying out every window of the framed δ instead, as
    ``correlate`` does, took 3 GB for AlexNet's first layer and 30 times as long.)
    """
    dims = len(stride)
    if long_sums.are_long(delta, kernels.shape, delta.shape[2:]):
        return long_sums.full_correlation(delta, kernels, size, stride, dilation, groups)
    space = _SPACE[:dims]
    of_group = delta.reshape(delta.shape[0], groups, -1, *delta.shape[2:])  # (n, g, out/g, *positions)
    split = kernels.reshape(groups, -1, *kernels.shape[1:])  # (g, out/g, in/g, *kernel)
    whole = delta.new_zeros((delta.shape[0], groups, split.shape[2], *size))
    for tap in itertools.product(*(range(k) for k in kernels.shape[2:])):
        place = [
            slice(a * d, a * d + (n - 1) * s + 1, s)
            for a, n, s, d in zip(tap, delta.shape[2:], stride, dilation, strict=True)
        ]
        whole[last(place)] += torch.einsum(f"ngj{space},gji->ngi{space}", of_group, split[last(tap)])
    return whole.flatten(1, 2)


def kernel_gradient(
    x: Tensor, delta: Tensor, kernel_size: Sequence[int], stride: Sizes, dilation: Sizes, groups: int = 1
) -> Tensor:
    """Eq. (24): ∂J/∂k_ij[a,b] = Σ_n Σ_uv δ_j[u,v]·x_i[s·u + d·a, s·v + d·b] → (out, in/groups, *kernel)."""
    dims = len(stride)
    shape = (delta.shape[1], x.shape[1] // groups, *kernel_size)
    if long_sums.are_long(x, shape, delta.shape[2:]):
        return long_sums.kernel_gradient(x, delta, shape, stride, dilation, groups)
    space, kernel = _SPACE[:dims], _KERNEL[:dims]
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])  # (n, g, in/g, *size)
    seen = windows(grouped, tuple(kernel_size), stride, dilation)
    of_group = delta.reshape(delta.shape[0], groups, -1, *delta.shape[2:])  # (n, g, out/g, *positions)
    return torch.einsum(f"ngi{space}{kernel},ngj{space}->gji{kernel}", seen, of_group).flatten(0, 1)


def _whole_padding(padding: Any, dims: int) -> Any:
    """(before, after) for each dimension, or "same"."""
    if padding == "same":
        return "same"
    if padding == "valid":
        return ((0, 0),) * dims
    if isinstance(padding, str):
        raise ArgumentError("padding", padding, '"same", "valid" or numbers')
    if isinstance(padding, Sequence) and padding and all(isinstance(item, Sequence) for item in padding):
        pairs = tuple(full(item, 2, "padding", minimum=0) for item in padding)
        if len(pairs) != dims:
            raise ArgumentError("padding", padding, f"{dims} pairs (before, after)")
        return pairs
    return tuple((p, p) for p in full(padding, dims, "padding", minimum=0))


@rule_for_module(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Rule | None:
    dims = len(module.kernel_size)
    if x.ndim != dims + 2:
        return None
    return Conv(dims, module.stride, module.padding, module.dilation, module.groups, padding_mode=module.padding_mode)


def _bind_function(dims: int) -> None:
    @rule_for_function((F.conv1d, F.conv2d, F.conv3d)[dims - 1])
    def _(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Applied | None:
        if input.ndim != dims + 2:
            return None
        rule = Conv(dims, plain(stride), plain(padding), plain(dilation), groups)
        return Applied(rule, (input,), {"weight": weight, "bias": bias})


def plain(value: Any) -> Any:
    """torch also takes a sequence of one number for all dimensions."""
    return value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1 else value


for _dims in (1, 2, 3):
    _bind_function(_dims)
