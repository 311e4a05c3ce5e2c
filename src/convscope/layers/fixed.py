"""Classic kernels as a network's first layer: features by hand, before those that are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy
import torch
from torch import nn

from convscope import kernels
from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number

Padding = Literal["zeros", "reflect", "replicate", "circular"]


def fixed_filters(
    names: Sequence[str], in_channels: int = 1, padding_mode: Padding = "zeros", **options: Any
) -> nn.Conv2d:
    """An ordinary convolution with the kernels ``names`` of ``convscope.kernels``, which training leaves alone.

    (n, in_channels, h, w) → (n, in_channels · len(names), h, w); map c · len(names) + i is input map c by kernel i.
    Smaller kernels stand in the middle of the largest's square. ``options`` (size, sigma, angle, amount) go to those
    kernels that take them. It is a frozen ``nn.Conv2d``, so every engine, trace and saved file knows it:
    ``nn.Sequential(fixed_filters(["sobel_x", "sobel_y"]), create_model("lenet5", in_channels=2))``.

    Raises UnknownNameError for unknown kernels and for options that none of them takes, ArgumentError for filters
    without a kernel (median, magnitudes).
    """
    if not names or isinstance(names, str):
        raise ArgumentError("names", names, f"a list of kernels: {', '.join(kernels.NAMES)}")
    found = []
    for name in names:
        taken = {option: value for option, value in options.items() if option in kernels.named(name).takes}
        found.append(kernels.kernel(name, **taken))
    for option in options:
        if not any(option in kernels.named(name).takes for name in names):
            kernels.check_options(names[0], {option: options[option]})
    side = max(len(each) for each in found)
    together = numpy.stack([numpy.pad(each, (side - len(each)) // 2) for each in found])  # (kernels, side, side)
    channels = whole_number(in_channels, "in_channels")
    layer = nn.Conv2d(
        channels, channels * len(names), side, padding=side // 2, groups=channels, bias=False, padding_mode=padding_mode
    )
    weight = torch.from_numpy(together).float()[:, None].repeat(channels, 1, 1, 1)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
