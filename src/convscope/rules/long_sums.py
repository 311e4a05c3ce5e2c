"""Equations (1), (27) and (24) for layers of very many products: the same sums by torch's own convolution routines.

They take what ``correlate``, ``full_correlation`` and ``kernel_gradient`` of ``conv`` take; only the order of the sums
differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad

from convscope.rules.windows import Sizes

LONG = 1 << 24
"""Products for one example from which torch's routines are taken: about half a millisecond of one core."""

_FORWARD: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TO_INPUT: dict[int, Callable[..., Tensor]] = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}
_TO_WEIGHT: dict[int, Callable[..., Tensor]] = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}


def are_long(values: Tensor, kernels: Sequence[int], positions: Sequence[int]) -> bool:
    """``kernels`` (out, in/groups, *kernel). On a graphics card torch may round to TF32's 10 bits: not there."""
    return (
        values.dtype == torch.float32
        and values.device.type == "cpu"
        and math.prod(kernels) * math.prod(positions) >= LONG
    )


def correlate(x: Tensor, kernels: Tensor, stride: Sizes, dilation: Sizes, groups: int) -> Tensor:
    return _FORWARD[len(stride)](x, kernels, None, stride, 0, dilation, groups)


def full_correlation(
    delta: Tensor, kernels: Tensor, size: Sequence[int], stride: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    whole = (delta.shape[0], kernels.shape[1] * groups, *size)
    return _TO_INPUT[len(stride)](whole, kernels, delta, stride, 0, dilation, groups)


def kernel_gradient(
    x: Tensor, delta: Tensor, shape: Sequence[int], stride: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    return _TO_WEIGHT[len(stride)](x, tuple(shape), delta, stride, 0, dilation, groups)
