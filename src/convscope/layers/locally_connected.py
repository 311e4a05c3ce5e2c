"""Convolution whose kernels are not shared over the whole map: each place, or each small region, has its own."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from convscope.layers.conv import Size, whole_number
from convscope.layers.pool import windows
from convscope.rules.base import Deltas, Gradients, Rule, Saved, rule_for_module
from convscope.rules.windows import Edges, pad, unpad, unwindow
from convscope.rules.windows import windows as all_windows
from convscope.shapes import Pair, conv_output_size, pair


class LocallySharedConv2d(nn.Module):
    """A convolution whose output map is cut into regions of ``region_size`` places, each region with own kernels.

    u_j(p) = Σ_i (x_i ⋆ k_ij^r)(p) + b_j^r for places p in region r (Sun et al. 2014, DeepID: the third layer shares
    over 2×2 places, the fourth over none). ``weight`` is (rows, columns, out_channels, in_channels, kh, kw) and
    ``bias`` (out_channels, rows, columns) with rows × columns regions; a last region may be smaller. Input
    (n, in_channels, *input_size), output (n, out_channels, h′, w′).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        input_size: Size,
        region_size: Size = 2,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = whole_number(in_channels, "in_channels")
        self.out_channels = whole_number(out_channels, "out_channels")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.input_size = pair(input_size, "input_size")
        self.region_size = pair(region_size, "region_size")
        self.stride = pair(stride, "stride")
        self.padding = pair(padding, "padding", minimum=0)
        self.output_size = (self._output_size(0), self._output_size(1))
        self.regions = tuple(-(-self.output_size[axis] // self.region_size[axis]) for axis in (0, 1))
        self.weight = nn.Parameter(torch.empty(*self.regions, out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels, *self.regions)) if bias else None
        self.reset_parameters()

    def _output_size(self, axis: int) -> int:
        return conv_output_size(self.input_size[axis], self.kernel_size[axis], self.stride[axis], self.padding[axis])

    def reset_parameters(self) -> None:
        """Uniform ±1/√fan_in, as torch's convolution."""
        bound = 1 / math.sqrt(self.fans()[0])
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def fans(self) -> tuple[float, float]:
        """Fan-in and fan-out of one unit, as for a shared convolution."""
        area = math.prod(self.kernel_size)
        return float(self.in_channels * area), float(self.out_channels * area)

    def place_regions(self, axis: int) -> Tensor:
        """The region index of every output row (axis 0) or column (axis 1), on the weight's device."""
        return torch.arange(self.output_size[axis], device=self.weight.device) // self.region_size[axis]

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.place_regions(0), self.place_regions(1)
        kernels = self.weight[rows][:, columns]  # (h', w', out, in, kh, kw)
        places = windows(x, self.kernel_size, self.stride, self.padding)  # (n, in, h', w', kh, kw)
        u = torch.einsum("nchwij,hwocij->nohw", places, kernels)
        return u if self.bias is None else u + self.bias[:, rows][:, :, columns]

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, input_size={self.input_size}"
        return text + f", region_size={self.region_size}, stride={self.stride}, padding={self.padding}"


class LocallyConnected2d(LocallySharedConv2d):
    """A convolution without any sharing: every output place has its own kernels (``region_size`` 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        input_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, input_size, 1, stride, padding, bias)


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
        seen = all_windows(padded, tuple(weight.shape[-2:]), self.stride, (1, 1))  # (n, in, h', w', kh, kw)
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


@rule_for_module(LocallySharedConv2d, LocallyConnected2d)
def _(module: LocallySharedConv2d, x: Tensor) -> Rule:
    return LocallyShared(module.region_size, module.stride, module.padding)
