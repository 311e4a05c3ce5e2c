"""Local response normalisation and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import Builder, Value, lowers_function, lowers_module
from convscope.lowering.plan import Attribute


@lowers_module(nn.LocalResponseNorm)
def _(b: Builder, m: nn.LocalResponseNorm, x: Any) -> Value:
    return response_norm(b, x, m.size, m.alpha, m.beta, m.k)


@lowers_function(F.local_response_norm)
def response_norm(b: Builder, input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    x = b.maps(input)
    attributes: dict[str, Attribute] = {"size": size, "alpha": float(alpha), "beta": float(beta), "k": float(k)}
    return b.record("response_norm", x, x.shape, attributes)


@lowers_module(nn.BatchNorm2d)
def _(b: Builder, m: nn.BatchNorm2d, x: Any) -> Value:
    return _batch_norm_module(b, m, b.maps(x))


@lowers_module(nn.BatchNorm1d)
def _(b: Builder, m: nn.BatchNorm1d, x: Any) -> Value:
    return _batch_norm_module(b, m, b.features(x))


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
    x = b.tensor(input)
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
            return _with_running_statistics(b, x, running_mean, running_var, weight, bias, eps)
    else:
        b.training = True
        if x.shape[1:] == (1, 1):
            b.needs_several = b.needs_several or b.layer
    names = ("running_mean", "running_var")
    kept = [b.own_state(channels) if each is None else b.buffer(each) for each in (running_mean, running_var)]
    attributes: dict[str, Attribute] = {"eps": float(eps), "momentum": float(momentum)}
    parameters = {"weight": weight, "bias": bias}
    return b.record("batch_norm", x, x.shape, attributes, parameters, dict(zip(names, kept, strict=True)))


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
    return b.record("subsample", normalised, x.shape, attributes, {"weight": weight, "bias": bias})


def _slope_and_offset(
    mean: torch.Tensor, variance: torch.Tensor, eps: float
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    def slope() -> torch.Tensor:
        return (variance + eps).rsqrt()

    return slope, lambda: -mean * slope()
