"""Poolings, trainable subsampling, and the mean of whole maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers import L2Pool2d, MedianPool2d, MinPool2d, Subsample2d, SumPool2d
from convscope.layers.activations import activation_rule
from convscope.lowering.builder import Builder, lowers_function, lowers_module
from convscope.lowering.operators import activations, resizing
from convscope.lowering.operators.resizing import max_windows
from convscope.lowering.plan import Attribute
from convscope.lowering.values import Value
from convscope.shapes import pool_output_size

LARGEST_WINDOW = 256  # positions, of the engine's max_pool, which keeps the place of the largest in a byte


def pool(
    b: Builder,
    kind: str,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **more: Attribute,
) -> Value:
    """A pooling of ``kind``; an empty or absent stride is the kernel's size, as in torch."""
    x = b.maps(x)
    kernel = b.pair(kernel_size, "kernel_size")
    steps = kernel if stride is None or stride == [] else b.pair(stride, "stride")
    pads, gaps = b.pair(padding, "padding", minimum=0), b.pair(dilation, "dilation")
    try:
        height, width = (
            pool_output_size(x.shape[1 + axis], kernel[axis], steps[axis], pads[axis], gaps[axis], ceil_mode)
            for axis in (0, 1)
        )
    except ArgumentError as problem:
        b.refuse(str(problem))
    spans = [x.shape[1 + axis] + 2 * pads[axis] for axis in (0, 1)]
    if any(gap * (side - 1) >= span for gap, side, span in zip(gaps, kernel, spans, strict=True)):
        b.refuse(f"its window {kernel} hangs over maps of {x.shape[1:]} on all sides, the engine's do not")
    if kind == "max_pool" and (gaps != (1, 1) or kernel[0] * kernel[1] > LARGEST_WINDOW):
        sides = zip(x.shape[1:], (height, width), kernel, steps, pads, gaps, strict=True)
        rows, columns = (_windows(*side) for side in sides)
        return max_windows(b, x, rows, columns)
    if gaps != (1, 1):
        b.refuse(f"dilation={dilation}, the engine pools over windows without gaps only")
    attributes: dict[str, Attribute] = {
        "kernel_size": list(kernel),
        "stride": list(steps),
        "padding": list(pads),
        "ceil_mode": int(ceil_mode),
        **more,
    }
    return b.record(kind, x, (x.shape[0], height, width), attributes)


def _windows(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    """The places of each window along one side that lie in the maps."""
    starts = [position * stride - padding for position in range(count)]
    return [[start + tap * dilation for tap in range(kernel) if 0 <= start + tap * dilation < size] for start in starts]


@lowers_module(nn.MaxPool2d)
def _(b: Builder, m: nn.MaxPool2d, x: Any) -> Value:
    return max_pool(b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


@lowers_function(F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d)
def max_pool(
    b: Builder,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if return_indices:
        b.refuse("return_indices=True, the engine does not give the places of the maxima away")
    return pool(b, "max_pool", input, kernel_size, stride, padding, dilation, ceil_mode)


@lowers_module(MinPool2d)
def _(b: Builder, m: MinPool2d, x: Any) -> Value:
    """min x = −max(−x)"""
    negated = b.affine(b.maps(x), -1.0, 0.0)
    pooled = pool(b, "max_pool", negated, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
    return b.affine(pooled, -1.0, 0.0)


@lowers_module(MedianPool2d)
def _(b: Builder, m: MedianPool2d, x: Any) -> Value:
    b.refuse("the engine has no median pooling")


@lowers_module(nn.AvgPool2d)
def _(b: Builder, m: nn.AvgPool2d, x: Any) -> Value:
    return mean_pool(b, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)


@lowers_function(F.avg_pool2d)
def mean_pool(
    b: Builder,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    if divisor_override is not None:
        total = pool(b, "sum_pool", input, kernel_size, stride, padding, 1, ceil_mode)
        return total if divisor_override == 1 else b.affine(total, 1 / divisor_override, 0.0)
    count = int(count_include_pad)
    return pool(b, "mean_pool", input, kernel_size, stride, padding, 1, ceil_mode, count_include_pad=count)


@lowers_module(SumPool2d)
def _(b: Builder, m: SumPool2d, x: Any) -> Value:
    return pool(b, "sum_pool", x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


@lowers_module(L2Pool2d)
def _(b: Builder, m: L2Pool2d, x: Any) -> Value:
    return pool(b, "l2_pool", x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


@lowers_module(Subsample2d)
def _(b: Builder, m: Subsample2d, x: Any) -> Value:
    x = b.maps(x)
    if x.shape[0] != m.channels:
        b.refuse(f"takes {b.shown(x)}, but wants {m.channels} channels")
    try:
        height, width = (pool_output_size(x.shape[1 + i], m.kernel_size[i], m.stride[i]) for i in (0, 1))
    except ArgumentError as problem:
        b.refuse(str(problem))
    attributes = {"kernel_size": list(m.kernel_size), "stride": list(m.stride)}
    parameters = {"weight": m.weight, "bias": m.bias}
    u = b.record("subsample", x, (m.channels, height, width), attributes, parameters)
    return activations.pointwise(b, activation_rule(m.activation), u)


@lowers_module(nn.AdaptiveAvgPool2d)
def _(b: Builder, m: nn.AdaptiveAvgPool2d, x: Any) -> Value:
    return adaptive_mean(b, x, m.output_size)


@lowers_function(F.adaptive_avg_pool2d)
def adaptive_mean(b: Builder, input: Any, output_size: Any) -> Value:
    x = b.maps(input)
    wanted = _adaptive_size(b, x, output_size)
    if wanted == (1, 1):
        return b.record("global_mean", x, (x.shape[0], 1, 1))
    kernel = _adaptive_kernel(x, wanted)
    if kernel is None:
        return resizing.adaptive_mean(b, x, wanted)
    return x if kernel == (1, 1) else pool(b, "mean_pool", x, kernel)


@lowers_module(nn.AdaptiveMaxPool2d)
def _(b: Builder, m: nn.AdaptiveMaxPool2d, x: Any) -> Value:
    return adaptive_max(b, x, m.output_size, m.return_indices)


@lowers_function(F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices)
def adaptive_max(b: Builder, input: Any, output_size: Any, return_indices: bool = False) -> Value:
    if return_indices:
        b.refuse("return_indices=True, the engine does not give the places of the maxima away")
    x = b.maps(input)
    wanted = _adaptive_size(b, x, output_size)
    kernel = _adaptive_kernel(x, wanted)
    if kernel is not None:
        return x if kernel == (1, 1) else pool(b, "max_pool", x, kernel)
    rows, columns = (
        [list(range(i * size // count, -(-(i + 1) * size // count))) for i in range(count)]
        for size, count in zip(x.shape[1:], wanted, strict=True)
    )
    return max_windows(b, x, rows, columns)


def _adaptive_size(b: Builder, x: Value, output_size: Any) -> tuple[int, int]:
    sides = tuple(output_size) if isinstance(output_size, tuple | list | torch.Size) else (output_size,) * 2
    wanted = tuple(x.shape[1 + axis] if side is None else side for axis, side in enumerate(sides))
    return b.pair(wanted, "output_size")


def _adaptive_kernel(x: Value, wanted: tuple[int, int]) -> tuple[int, int] | None:
    """The window of an adaptive pooling; None where they are of several sizes."""
    height, width = x.shape[1:]
    return None if height % wanted[0] or width % wanted[1] else (height // wanted[0], width // wanted[1])
