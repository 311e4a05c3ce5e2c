"""Convolution whose kernels are not shared over the whole map: each place, or each small region, has its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convscope.layers.conv import Size, whole_number
from convscope.layers.pool import windows
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.locally_shared import LocallyShared
from convscope.shapes import conv_output_size, pair


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


@rule_for_module(LocallySharedConv2d, LocallyConnected2d)
def _(module: LocallySharedConv2d, x: Tensor) -> Rule:
    return LocallyShared(module.region_size, module.stride, module.padding)
