"""Convolutions and linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers import RBF, Conv2d, TableConv2d
from convscope.lowering.builder import Builder, Value, lowers_function, lowers_module
from convscope.lowering.plan import Attribute
from convscope.shapes import Pair, conv_output_size


@lowers_module(nn.Conv2d, Conv2d)
def _(b: Builder, module: nn.Conv2d, x: Any) -> Value:
    if module.padding_mode != "zeros":
        b.refuse(f"padding_mode={module.padding_mode!r}, the engine pads with zeros only")
    flip = bool(getattr(module, "flip_kernel", False))
    return convolve(
        b, x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups, flip=flip
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
    _expect_channels(b, x, weight.shape[1] * groups)
    kernel_size = b.pair(tuple(weight.shape[2:]), "kernel_size")
    stride, dilation = b.pair(stride, "stride"), b.pair(dilation, "dilation")
    padding = _padding(b, padding, kernel_size, dilation)
    attributes: dict[str, Attribute] = {
        "out_channels": weight.shape[0],
        "kernel_size": list(kernel_size),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "groups": groups,
        "flip_kernel": int(flip),
    }
    size = _output_size(b, x, kernel_size, stride, padding, dilation)
    return b.record("conv2d", x, (weight.shape[0], *size), attributes, {"weight": weight, "bias": bias})


@lowers_module(nn.Linear)
def _(b: Builder, module: nn.Linear, x: Any) -> Value:
    return linear(b, x, module.weight, module.bias)


@lowers_function(F.linear, torch._C._nn.linear)
def linear(b: Builder, input: Any, weight: Any, bias: Any = None) -> Value:
    x = b.features(input)
    if not isinstance(weight, torch.Tensor):
        b.refuse("its weights depend on the image, the engine multiplies with parameters only")
    if weight.shape[1] != x.size:
        b.refuse(f"takes {b.shown(x)}, its weight {tuple(weight.shape)} wants {weight.shape[1]} features")
    attributes = {"out_features": weight.shape[0]}
    return b.record("linear", x, (weight.shape[0], 1, 1), attributes, {"weight": weight, "bias": bias})


@lowers_module(RBF)
def _(b: Builder, module: RBF, x: Any) -> Value:
    x = b.features(x)
    if module.in_features != x.size:
        b.refuse(f"takes {b.shown(x)}, its codes want {module.in_features} features")
    state = {"weight": b.buffer(module.weight)}
    return b.record("rbf_units", x, (module.out_features, 1, 1), {"out_features": module.out_features}, state=state)


def _padding(b: Builder, padding: Any, kernel_size: Pair, dilation: Pair) -> Pair:
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        both = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
        if any(total % 2 for total in both):
            b.refuse("padding='same' with an even kernel pads one side more, the engine pads both sides alike")
        return both[0] // 2, both[1] // 2
    return b.pair(padding, "padding", minimum=0)


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
