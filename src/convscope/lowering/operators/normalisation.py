"""Normalisations: of neighbouring maps, of a batch, of one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import Builder, lowers_function, lowers_module
from convscope.lowering.operators.combine import operand, pair
from convscope.lowering.plan import Attribute
from convscope.lowering.values import Value


@lowers_module(nn.LocalResponseNorm)
def _(b: Builder, m: nn.LocalResponseNorm, x: Any) -> Value:
    return response_norm(b, x, m.size, m.alpha, m.beta, m.k)


@lowers_function(F.local_response_norm)
def response_norm(b: Builder, input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    x = b.tensor(input)
    attributes: dict[str, Attribute] = {"size": size, "alpha": float(alpha), "beta": float(beta), "k": float(k)}
    x = b.maps(x)
    return b.record("response_norm", x, x.shape, attributes)


@lowers_module(nn.BatchNorm2d)
def _(b: Builder, m: nn.BatchNorm2d, x: Any) -> Value:
    return _batch_norm_module(b, m, b.maps(x))


@lowers_module(nn.BatchNorm1d)
def _(b: Builder, m: nn.BatchNorm1d, x: Any) -> Value:
    return _batch_norm_module(b, m, b.tensor(x))


def _batch_norm_module(b: Builder, m: nn.BatchNorm2d | nn.BatchNorm1d, x: Value) -> Value:
    training = m.training or m.running_mean is None
    if m.training and m.running_mean is not None and m.num_batches_tracked is not None:
        if m.momentum is None:
            b.refuse("momentum=None averages over all batches so far, the engine keeps running averages only")
        b.counters.append(b.buffer(m.num_batches_tracked))
    momentum = 0.0 if m.momentum is None else m.momentum
    return batch_norm(b, x, m.running_mean, m.running_var, m.weight, m.bias, training, momentum, m.eps)


@lowers_function(F.batch_norm)
def batch_norm(
    b: Builder,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    x, back = b.with_first(b.tensor(input), 0)
    channels = x.shape[0]
    for each in (running_mean, running_var, weight, bias):
        if each is not None and tuple(each.shape) != (channels,):
            b.refuse(f"takes {b.shown(x)}, but wants {each.shape[0]} channels")
    if (weight is None) != (bias is None):
        b.refuse("has one of weight and bias, the engine takes both or none")
    if not training:
        b.evaluates = True
        if running_mean is None or running_var is None:
            b.refuse("has no running statistics to evaluate with")
        if b.mixed:
            return _with_running_statistics(b, x, running_mean, running_var, weight, bias, eps).permuted(back)
    else:
        b.training = True
        if x.shape[1:] == (1, 1):
            b.needs_several = b.needs_several or b.layer
    names = ("running_mean", "running_var")
    kept = [b.own_state(channels) if each is None else b.buffer(each) for each in (running_mean, running_var)]
    attributes: dict[str, Attribute] = {"eps": float(eps), "momentum": float(momentum)}
    parameters = {"weight": weight, "bias": bias}
    state = dict(zip(names, kept, strict=True))
    return b.record("batch_norm", x, x.shape, attributes, parameters, state, sizes=x.sizes).permuted(back)


def _with_running_statistics(
    b: Builder,
    x: Value,
    mean: torch.Tensor,
    variance: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> Value:
    """y = γ·x̂ + β, x̂ = (x − μ)/√(σ² + ε), with μ and σ² as they are: two maps of the form a·x + b.

    Written so, such a layer may stand beside others that use the batch's statistics.
    """
    slope, offset = _slope_and_offset(mean, variance, eps)
    normalised = b.affine(x, slope, offset)
    if weight is None:
        return normalised
    attributes: dict[str, Attribute] = {"kernel_size": [1, 1], "stride": [1, 1]}
    return b.record("subsample", normalised, x.shape, attributes, {"weight": weight, "bias": bias}, sizes=x.sizes)


def _slope_and_offset(
    mean: torch.Tensor, variance: torch.Tensor, eps: float
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    def slope() -> torch.Tensor:
        return (variance + eps).rsqrt()

    return slope, lambda: -mean * slope()


@lowers_module(nn.GroupNorm)
def _(b: Builder, m: nn.GroupNorm, x: Any) -> Value:
    return group_norm(b, x, m.num_groups, m.weight, m.bias, m.eps)


@lowers_function(F.group_norm, torch.group_norm)
def group_norm(
    b: Builder, input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_unused: Any
) -> Value:
    x, back = b.with_first(b.tensor(input), 0)
    channels = x.shape[0]
    for each in (weight, bias):
        if each is not None and tuple(each.shape) != (channels,):
            b.refuse(f"takes {b.shown(input)}, but wants {each.shape[0]} channels")
    if num_groups < 1 or channels % num_groups:
        b.refuse(f"num_groups={num_groups}, which does not divide the {channels} channels of {b.shown(input)}")
    attributes: dict[str, Attribute] = {"groups": num_groups, "eps": float(eps)}
    parameters = {"weight": weight, "bias": bias}
    return b.record("group_norm", x, x.shape, attributes, parameters, sizes=x.sizes).permuted(back)


@lowers_module(nn.InstanceNorm2d, nn.InstanceNorm1d)
def _(b: Builder, m: nn.InstanceNorm2d, x: Any) -> Value:
    if m.track_running_stats:
        b.refuse("track_running_stats=True, the engine takes each image's own statistics only")
    return group_norm(b, x, b.tensor(x).sizes[0], m.weight, m.bias, m.eps)


@lowers_function(F.instance_norm)
def _(
    b: Builder,
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if running_mean is not None or not use_input_stats:
        b.refuse("has running statistics, the engine takes each image's own only")
    return group_norm(b, input, b.tensor(input).sizes[0], weight, bias, eps)


@lowers_module(nn.LayerNorm)
def _(b: Builder, m: nn.LayerNorm, x: Any) -> Value:
    return layer_norm(b, x, m.normalized_shape, m.weight, m.bias, m.eps)


@lowers_function(F.layer_norm, torch.layer_norm)
def layer_norm(
    b: Builder,
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_unused: Any,
) -> Value:
    x = b.tensor(input)
    shape = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list | torch.Size) else (normalized_shape,)
    if not shape or x.sizes[-len(shape) :] != shape:
        b.refuse(f"takes {b.shown(x)}, whose last sides are not {shape}")
    attributes: dict[str, Attribute] = {"eps": float(eps)}
    if len(shape) == 1:  # over one side, which lies first: with γ and β of each of its places
        moved, back = b.with_first(x, len(x.sizes) - 1)
        parameters = {"weight": weight, "bias": bias}
        return b.record("layer_norm", moved, moved.shape, attributes, parameters, sizes=moved.sizes).permuted(back)
    groups = x.size // math.prod(shape)
    moved = b.arranged(x, (groups, 1, math.prod(shape)))
    y = b.record("group_norm", moved, moved.shape, {"groups": groups, **attributes}, sizes=x.sizes)
    if weight is not None:
        y = pair(b, "multiply", y, operand(b, weight, y))
    return y if bias is None else pair(b, "add", y, operand(b, bias, y))
