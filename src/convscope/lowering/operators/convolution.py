"""Convolutions and linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers import RBF, Conv2d, TableConv2d
from convscope.lowering.builder import Builder, lowers_function, lowers_module
from convscope.lowering.operators.resizing import pad
from convscope.lowering.plan import Attribute
from convscope.lowering.values import Value
from convscope.shapes import Pair, conv_output_size


@lowers_module(nn.Conv2d, Conv2d)
def _(b: Builder, module: nn.Conv2d, x: Any) -> Value:
    flip = bool(getattr(module, "flip_kernel", False))
    padding: Any = module.padding
    if module.padding_mode != "zeros":
        x = pad(b, b.maps(x), module._reversed_padding_repeated_twice, module.padding_mode)
        padding = 0
    return convolve(b, x, module.weight, module.bias, module.stride, padding, module.dilation, module.groups, flip=flip)


@lowers_module(nn.Conv1d)
def _(b: Builder, module: nn.Conv1d, x: Any) -> Value:
    if module.padding_mode != "zeros":
        b.refuse(f"padding_mode={module.padding_mode!r}, the engine pads lines with zeros only")
    return convolve_lines(
        b, x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
    )


@lowers_module(TableConv2d)
def _(b: Builder, module: TableConv2d, x: Any) -> Value:
    x = b.maps(x)
    _expect_channels(b, x, module.in_channels)
    attributes: dict[str, Attribute] = {
        "out_channels": module.out_channels,
        "kernel_size": list(module.kernel_size),
        "stride": list(module.stride),
        "padding": list(module.padding),
        "dilation": list(module.dilation),
        "flip_kernel": int(module.flip_kernel),
        "table": [list(maps) for maps in module.input_maps()],
    }
    size = _output_size(b, x, module.kernel_size, module.stride, module.padding, module.dilation)
    parameters = {"weight": module.weight, "bias": module.bias}
    return b.record("conv2d", x, (module.out_channels, *size), attributes, parameters)


@lowers_function(F.conv2d, torch.conv2d)
def convolve(
    b: Builder,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    flip: bool = False,
) -> Value:
    x = b.maps(input)
    if not isinstance(weight, torch.Tensor):
        b.refuse("its weights depend on the image, the engine convolves with parameters only")
    stride, dilation = b.pair(stride, "stride"), b.pair(dilation, "dilation")
    return _convolved(b, x, weight, tuple(weight.shape[2:]), bias, stride, padding, dilation, groups, flip)


def _convolved(
    b: Builder,
    x: Value,
    weight: torch.Tensor,
    kernel: Any,
    bias: Any,
    stride: Pair,
    padding: Any,
    dilation: Pair,
    groups: int,
    flip: bool = False,
) -> Value:
    """``kernel`` is (height, width); the weights lie (out, in/groups, height, width), however many sides they show."""
    _expect_channels(b, x, weight.shape[1] * groups)
    kernel_size = b.pair(kernel, "kernel_size")
    before, more = _padding(b, padding, kernel_size, dilation)
    if more != (0, 0):
        x, before = pad(b, x, (before[1], before[1] + more[1], before[0], before[0] + more[0])), (0, 0)
    attributes: dict[str, Attribute] = {
        "out_channels": weight.shape[0],
        "kernel_size": list(kernel_size),
        "stride": list(stride),
        "padding": list(before),
        "dilation": list(dilation),
        "groups": groups,
        "flip_kernel": int(flip),
    }
    size = _output_size(b, x, kernel_size, stride, before, dilation)
    return b.record("conv2d", x, (weight.shape[0], *size), attributes, {"weight": weight, "bias": bias})


@lowers_function(F.conv1d, torch.conv1d)
def convolve_lines(
    b: Builder,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Lines (n, c, l) as maps of one row."""
    x = b.tensor(input)
    if len(x.sizes) != 2 or not isinstance(weight, torch.Tensor):
        b.refuse(f"takes {b.shown(x)}, the engine runs it on lines (n, c, l) only, with parameters as weights")
    stride, dilation = ((1, *_single(each)) for each in (stride, dilation))
    padding = padding if isinstance(padding, str) else (0, *_single(padding))
    y = _convolved(b, b.maps(x.with_new(1)), weight, (1, *weight.shape[2:]), bias, stride, padding, dilation, groups)
    return y.without(1)


def _single(value: Any) -> tuple[Any]:
    return (value[0],) if isinstance(value, tuple | list) else (value,)


@lowers_module(nn.ConvTranspose2d)
def _(b: Builder, m: nn.ConvTranspose2d, x: Any, output_size: Any = None) -> Value:
    if output_size is not None:
        b.refuse("is given an output_size, the engine knows output_padding only")
    return convolve_transposed(b, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)


@lowers_function(F.conv_transpose2d, torch.conv_transpose2d)
def convolve_transposed(
    b: Builder,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    x = b.maps(input)
    if not isinstance(weight, torch.Tensor):
        b.refuse("its weights depend on the image, the engine convolves with parameters only")
    _expect_channels(b, x, weight.shape[0])
    kernel_size = b.pair(tuple(weight.shape[2:]), "kernel_size")
    stride, dilation = b.pair(stride, "stride"), b.pair(dilation, "dilation")
    padding, more = b.pair(padding, "padding", minimum=0), b.pair(output_padding, "output_padding", minimum=0)
    size = [
        (x.shape[1 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel_size[i] - 1) + more[i] + 1
        for i in (0, 1)
    ]
    if min(size) < 1 or any(more[i] >= stride[i] for i in (0, 1)):
        b.refuse(f"output_padding={more}, stride={stride}: makes maps of {size[0]}×{size[1]}")
    attributes: dict[str, Attribute] = {
        "out_channels": weight.shape[1] * groups,
        "kernel_size": list(kernel_size),
        "stride": list(stride),
        "padding": list(padding),
        "output_padding": list(more),
        "dilation": list(dilation),
        "groups": groups,
    }
    shape = (weight.shape[1] * groups, size[0], size[1])
    return b.record("conv_transpose2d", x, shape, attributes, {"weight": weight, "bias": bias})


@lowers_module(nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
def _(b: Builder, module: nn.Linear, x: Any) -> Value:
    return linear(b, x, module.weight, module.bias)


@lowers_function(F.linear, torch._C._nn.linear)
def linear(b: Builder, input: Any, weight: Any, bias: Any = None) -> Value:
    """On features a linear layer; on tensors with more sides a 1×1 convolution over those that are not the last."""
    x = b.tensor(input)
    if not isinstance(weight, torch.Tensor):
        b.refuse("its weights depend on the image, the engine multiplies with parameters only")
    if not x.sizes or weight.shape[1] != x.sizes[-1]:
        b.refuse(f"takes {b.shown(x)}, its weight {tuple(weight.shape)} wants {weight.shape[1]} features")
    parameters = {"weight": weight, "bias": bias}
    if len(x.sizes) == 1:
        attributes: dict[str, Attribute] = {"out_features": weight.shape[0]}
        return b.record(
            "linear", b.features(x), (weight.shape[0], 1, 1), attributes, parameters, sizes=(weight.shape[0],)
        )
    moved, back = b.with_first(x, len(x.sizes) - 1)
    attributes = {"out_channels": weight.shape[0], "kernel_size": [1, 1], "stride": [1, 1], "padding": [0, 0]}
    attributes |= {"dilation": [1, 1], "groups": 1, "flip_kernel": 0}
    shape = (weight.shape[0], *moved.shape[1:])
    sizes = (weight.shape[0], *moved.sizes[1:])
    return b.record("conv2d", moved, shape, attributes, parameters, sizes=sizes).permuted(back)


@lowers_module(RBF)
def _(b: Builder, module: RBF, x: Any) -> Value:
    x = b.features(x)
    if module.in_features != x.size:
        b.refuse(f"takes {b.shown(x)}, its codes want {module.in_features} features")
    state = {"weight": b.buffer(module.weight)}
    shape, sizes = (module.out_features, 1, 1), (module.out_features,)
    return b.record("rbf_units", x, shape, {"out_features": module.out_features}, state=state, sizes=sizes)


def _padding(b: Builder, padding: Any, kernel_size: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """(zeros on both sides, how many more behind): "same" pads an even kernel's maps one position more behind."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        both = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
        return (both[0] // 2, both[1] // 2), (both[0] % 2, both[1] % 2)
    return b.pair(padding, "padding", minimum=0), (0, 0)


def _expect_channels(b: Builder, x: Value, wanted: int) -> None:
    if x.shape[0] != wanted:
        b.refuse(f"takes {b.shown(x)}, but wants {wanted} channels")


def _output_size(b: Builder, x: Value, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    try:
        height, width = (
            conv_output_size(x.shape[1 + axis], kernel_size[axis], stride[axis], padding[axis], dilation[axis])
            for axis in (0, 1)
        )
    except ArgumentError as problem:
        b.refuse(str(problem))
    return height, width
