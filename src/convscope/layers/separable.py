"""Convolutions taken apart, from torch's own layers, and what each saves.

The functions return ``nn.Sequential``, so that every part shows in a trace and runs on every engine.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from convscope.layers.conv import Size, whole_number
from convscope.shapes import pair


def depthwise_separable_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    bias: bool = True,
    between: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """One kernel for each input map, then a 1×1 convolution over maps (Howard et al. 2017; Chollet 2017).

    (n, in_channels, h, w) → (n, out_channels, h′, w′). ``between`` makes what comes between the two, e.g. a ReLU.
    """
    whole_number(in_channels, "in_channels")
    whole_number(out_channels, "out_channels")
    sizes = pair(kernel_size, "kernel_size"), pair(stride, "stride"), pair(padding, "padding", 0)
    depthwise = nn.Conv2d(in_channels, in_channels, *sizes, pair(dilation, "dilation"), groups=in_channels, bias=bias)
    layers = OrderedDict[str, nn.Module](depthwise=depthwise)
    if between is not None:
        layers["between"] = between()
    layers["pointwise"] = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
    return nn.Sequential(layers)


def spatially_separable_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    bias: bool = True,
    between: int | None = None,
) -> nn.Sequential:
    """A kh×1 convolution, then a 1×kw one, with ``between`` maps in the middle (default out_channels).

    (n, in_channels, h, w) → (n, out_channels, h′, w′), h′ and w′ as of the kh×kw convolution.
    """
    whole_number(in_channels, "in_channels")
    middle = whole_number(out_channels if between is None else between, "between")
    (kh, kw), (sh, sw) = pair(kernel_size, "kernel_size"), pair(stride, "stride")
    ph, pw = pair(padding, "padding", 0)
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            vertical=nn.Conv2d(in_channels, middle, (kh, 1), (sh, 1), (ph, 0), bias=False),
            horizontal=nn.Conv2d(middle, out_channels, (1, kw), (1, sw), (0, pw), bias=bias),
        )
    )


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a form of convolution costs: its formula and numbers, biases left out, a picture's multiply-adds."""

    form: str
    formula: str
    parameters: int
    multiply_adds: int

    def share(self, dense: Cost) -> float:
        """Multiply-adds as a share of the dense form's."""
        return self.multiply_adds / dense.multiply_adds


def convolution_costs(
    in_channels: int, out_channels: int, kernel_size: Size, output_size: Size, groups: int = 1
) -> list[Cost]:
    """The dense convolution first, then the same shapes dilated, in groups, depthwise and spatially separable.

    C and D are input and output maps, k×l the kernel, h×w the output's size, g groups.
    """
    kh, kw = pair(kernel_size, "kernel_size")
    height, width = pair(output_size, "output_size")
    places, c, d = height * width, in_channels, out_channels
    dense = c * d * kh * kw
    costs = [
        Cost("dense", "C·D·k·l·h·w", dense, dense * places),
        Cost("dilated", "C·D·k·l·h·w", dense, dense * places),
    ]
    if groups > 1:
        costs.append(Cost(f"{groups} groups", "C·D·k·l·h·w/g", dense // groups, dense // groups * places))
    separable = c * kh * kw + c * d
    costs.append(Cost("depthwise separable", "C·(k·l + D)·h·w", separable, separable * places))
    formula = "D·(C·k·(w + l − 1) + D·l·w)·h"  # the middle maps are w + l − 1 wide
    wide = d * height * (c * kh * (width + kw - 1) + d * kw * width)
    costs.append(Cost("spatially separable", formula, c * d * kh + d * d * kw, wide))
    return costs
