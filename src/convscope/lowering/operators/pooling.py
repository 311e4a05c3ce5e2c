"""Poolings, trainable subsampling, and the mean of whole maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers import L2Pool2d, MedianPool2d, MinPool2d, Subsample2d, SumPool2d
from convscope.layers.activations import activation_rule
from convscope.lowering.builder import Builder, Value, lowers_function, lowers_method, lowers_module
from convscope.lowering.operators import activations
from convscope.lowering.plan import Attribute
from convscope.shapes import pool_output_size


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
    pads = b.pair(padding, "padding", minimum=0)
    if b.pair(dilation, "dilation") != (1, 1):
        b.refuse(f"dilation={dilation}, the engine pools over windows without gaps only")
    try:
        height, width = (
            pool_output_size(x.shape[1 + axis], kernel[axis], steps[axis], pads[axis], 1, ceil_mode) for axis in (0, 1)
        )
    except ArgumentError as problem:
        b.refuse(str(problem))
    attributes: dict[str, Attribute] = {
        "kernel_size": list(kernel),
        "stride": list(steps),
        "padding": list(pads),
        "ceil_mode": int(ceil_mode),
        **more,
    }
    return b.record(kind, x, (x.shape[0], height, width), attributes)


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


def global_mean(b: Builder, x: Value, flat: bool = False) -> Value:
    """The mean of each map: (n, c, 1, 1), or (n, c) where ``flat``."""
    return b.record("global_mean", x, (x.shape[0], 1, 1), flat=flat)


@lowers_module(nn.AdaptiveAvgPool2d)
def _(b: Builder, m: nn.AdaptiveAvgPool2d, x: Any) -> Value:
    return adaptive_mean(b, x, m.output_size)


@lowers_function(F.adaptive_avg_pool2d)
def adaptive_mean(b: Builder, input: Any, output_size: Any) -> Value:
    x = b.maps(input)
    wanted = _adaptive_size(b, x, output_size)
    if wanted == (1, 1):
        return global_mean(b, x)
    kernel = _adaptive_kernel(b, x, wanted)
    return x if kernel == (1, 1) else pool(b, "mean_pool", x, kernel)


@lowers_module(nn.AdaptiveMaxPool2d)
def _(b: Builder, m: nn.AdaptiveMaxPool2d, x: Any) -> Value:
    return adaptive_max(b, x, m.output_size, m.return_indices)


@lowers_function(F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices)
def adaptive_max(b: Builder, input: Any, output_size: Any, return_indices: bool = False) -> Value:
    if return_indices:
        b.refuse("return_indices=True, the engine does not give the places of the maxima away")
    x = b.maps(input)
    kernel = _adaptive_kernel(b, x, _adaptive_size(b, x, output_size))
    return x if kernel == (1, 1) else pool(b, "max_pool", x, kernel)


def _adaptive_size(b: Builder, x: Value, output_size: Any) -> tuple[int, int]:
    sides = tuple(output_size) if isinstance(output_size, tuple | list | torch.Size) else (output_size,) * 2
    wanted = tuple(x.shape[1 + axis] if side is None else side for axis, side in enumerate(sides))
    return b.pair(wanted, "output_size")


def _adaptive_kernel(b: Builder, x: Value, wanted: tuple[int, int]) -> tuple[int, int]:
    """The window of an adaptive pooling; where it does not divide the maps, the windows are of several sizes."""
    height, width = x.shape[1:]
    if height % wanted[0] or width % wanted[1]:
        b.refuse(f"output_size={wanted} does not divide maps of {height}×{width}, so its windows are of several sizes")
    return height // wanted[0], width // wanted[1]


@lowers_function(torch.mean)
@lowers_method("mean")
def _(b: Builder, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = b.maps(input)
    dims = sorted(each % 4 for each in ((dim,) if isinstance(dim, int) else dim or ()))
    if dims != [2, 3] or dtype not in (None, torch.float32):
        b.refuse(f"mean over {dim}, the engine takes it over both sides of the maps, (2, 3), only")
    return global_mean(b, x, flat=not keepdim)
