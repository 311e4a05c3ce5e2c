"""Pooling that torch lacks: sum, Euclidean norm, minimum and median, with torch's argument names.

All take (n, c, h, w) and give (n, c, h′, w′), h′ as in ``shapes.pool_output_size``. ``stride`` defaults to
``kernel_size``. Padded positions never count: they add nothing to a sum or norm and are no candidates for the minimum
or the median. With ``ceil_mode`` a last window may hang over the far edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules import pool as rules
from convscope.rules.base import Rule, rule_for_module
from convscope.shapes import pair, pool_output_size

Size = int | Sequence[int]
Pair = tuple[int, int]


def windows(
    x: torch.Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
    fill: float = 0.0,
) -> torch.Tensor:
    """Every pooling window of x (n, c, h, w): (n, c, h′, w′, kh, kw), ``fill`` at positions outside the picture."""
    outside = []
    for axis, size in enumerate(x.shape[2:]):
        count = pool_output_size(size, kernel_size[axis], stride[axis], padding[axis], dilation[axis], ceil_mode)
        reach = (count - 1) * stride[axis] + dilation[axis] * (kernel_size[axis] - 1) + 1
        outside.append((padding[axis], max(0, reach - size - padding[axis]), reach))
    (top, bottom, height), (left, right, width) = outside
    x = F.pad(x, (left, right, top, bottom), value=fill)[:, :, :height, :width]
    for axis in (0, 1):
        x = x.unfold(2 + axis, dilation[axis] * (kernel_size[axis] - 1) + 1, stride[axis])
    return x[..., :: dilation[0], :: dilation[1]]


class _Pool2d(nn.Module):
    """The arguments that the poolings below share."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "stride")
        self.padding = pair(padding, "padding", minimum=0)
        self.dilation = pair(dilation, "dilation")
        self.ceil_mode = bool(ceil_mode)
        if any(2 * side > size for side, size in zip(self.padding, self.kernel_size, strict=True)):
            half = tuple(size // 2 for size in self.kernel_size)
            raise ArgumentError("padding", padding, f"at most half the kernel size, {half}")

    def windows(self, x: torch.Tensor, fill: float) -> torch.Tensor:
        """(n, c, h, w) → (n, c, h′, w′, kh·kw)"""
        return windows(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, fill).flatten(4)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return text + f", dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class SumPool2d(_Pool2d):
    """y = Σ x over the window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.windows(x, 0.0).sum(-1)


class L2Pool2d(_Pool2d):
    """y = √(Σ x²) over the window; where the window is all zero the derivative is taken as 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm: torch.Tensor = torch.linalg.vector_norm(self.windows(x, 0.0), dim=-1)
        return norm


class MinPool2d(_Pool2d):
    """y = min x over the window; a tie sends δ to the first minimum in row order, as torch's max pooling does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -F.max_pool2d(-x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MedianPool2d(_Pool2d):
    """y = the median over the window's positions inside the picture; of two middle values the lower, as in torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.windows(x, math.nan).nanmedian(-1).values


_RULES: dict[type[_Pool2d], type[rules.Pool]] = {
    SumPool2d: rules.SumPool,
    L2Pool2d: rules.L2Pool,
    MinPool2d: rules.MinPool,
    MedianPool2d: rules.MedianPool,
}


@rule_for_module(*_RULES)
def _(module: _Pool2d, x: torch.Tensor) -> Rule:
    rule = _RULES[type(module)]
    return rule(2, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
