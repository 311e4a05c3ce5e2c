"""Activations, softmax and dropout."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.layers import ScaledSigmoid, ScaledTanh
from convscope.layers.activations import scaled_tanh
from convscope.lowering.builder import Builder, Value, lowers_function, lowers_method, lowers_module


def named(b: Builder, name: str, x: Value) -> Value:
    """An activation by its name in ``convscope.layers.ACTIVATIONS``."""
    return x if name == "linear" else b.pointwise(name, x)


@lowers_module(nn.ReLU)
def _(b: Builder, m: nn.ReLU, x: Any) -> Value:
    return relu(b, x)


@lowers_function(F.relu, torch.relu, F.relu_, torch.relu_)
@lowers_method("relu", "relu_")
def relu(b: Builder, input: Any, inplace: bool = False) -> Value:
    return b.pointwise("relu", b.tensor(input))


@lowers_module(nn.ReLU6)
def _(b: Builder, m: nn.ReLU6, x: Any) -> Value:
    return relu6(b, x)


@lowers_function(F.relu6)
def relu6(b: Builder, input: Any, inplace: bool = False) -> Value:
    return b.pointwise("relu6", b.tensor(input))


@lowers_module(nn.Tanh)
def _(b: Builder, m: nn.Tanh, x: Any) -> Value:
    return tanh(b, x)


@lowers_function(F.tanh, torch.tanh, torch.tanh_)
@lowers_method("tanh", "tanh_")
def tanh(b: Builder, input: Any) -> Value:
    return b.pointwise("tanh", b.tensor(input))


@lowers_module(nn.Sigmoid)
def _(b: Builder, m: nn.Sigmoid, x: Any) -> Value:
    return sigmoid(b, x)


@lowers_function(F.sigmoid, torch.sigmoid, torch.sigmoid_)
@lowers_method("sigmoid", "sigmoid_")
def sigmoid(b: Builder, input: Any) -> Value:
    return b.pointwise("sigmoid", b.tensor(input))


@lowers_module(ScaledSigmoid)
def _(b: Builder, m: ScaledSigmoid, x: Any) -> Value:
    return b.pointwise("sigmoid", b.tensor(x), slope=m.beta)


@lowers_module(ScaledTanh)
def _(b: Builder, m: ScaledTanh, x: Any) -> Value:
    return b.pointwise("scaled_tanh", b.tensor(x))


@lowers_function(scaled_tanh)
def _(b: Builder, u: Any) -> Value:
    return b.pointwise("scaled_tanh", b.tensor(u))


@lowers_module(nn.SiLU)
def _(b: Builder, m: nn.SiLU, x: Any) -> Value:
    return silu(b, x)


@lowers_function(F.silu)
def silu(b: Builder, input: Any, inplace: bool = False) -> Value:
    return b.pointwise("silu", b.tensor(input))


@lowers_module(nn.Softplus)
def _(b: Builder, m: nn.Softplus, x: Any) -> Value:
    return softplus(b, x, m.beta, m.threshold)


@lowers_function(F.softplus)
def softplus(b: Builder, input: Any, beta: float = 1, threshold: float = 20) -> Value:
    """ln(1 + e^(βx))/β; beyond a threshold of 20 torch's straight line is the same number in float32."""
    x = b.tensor(input)
    if threshold < 20:
        b.refuse(f"threshold={threshold:g}, the engine's softplus has no straight part below 20")
    if beta == 1:
        return b.pointwise("softplus", x)
    return b.affine(b.pointwise("softplus", b.affine(x, beta, 0.0)), 1 / beta, 0.0)


@lowers_module(nn.LeakyReLU)
def _(b: Builder, m: nn.LeakyReLU, x: Any) -> Value:
    return leaky_relu(b, x, m.negative_slope)


@lowers_function(F.leaky_relu, F.leaky_relu_)
def leaky_relu(b: Builder, input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return b.pointwise("leaky_relu", b.tensor(input), negative_slope=float(negative_slope))


@lowers_module(nn.ELU)
def _(b: Builder, m: nn.ELU, x: Any) -> Value:
    return elu(b, x, m.alpha)


@lowers_function(F.elu, F.elu_)
def elu(b: Builder, input: Any, alpha: float = 1.0, inplace: bool = False) -> Value:
    return b.pointwise("elu", b.tensor(input), alpha=float(alpha))


@lowers_module(nn.SELU)
def _(b: Builder, m: nn.SELU, x: Any) -> Value:
    return selu(b, x)


@lowers_function(F.selu, torch.selu)
def selu(b: Builder, input: Any, inplace: bool = False) -> Value:
    """λ·elu(x; α) with the constants of Klambauer et al. 2017."""
    exponential = b.pointwise("elu", b.tensor(input), alpha=1.6732632423543772)
    return b.affine(exponential, 1.0507009873554805, 0.0)


@lowers_module(nn.Hardtanh)
def _(b: Builder, m: nn.Hardtanh, x: Any) -> Value:
    return hard_tanh(b, x, m.min_val, m.max_val)


@lowers_function(F.hardtanh, F.hardtanh_)
def hard_tanh(b: Builder, input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Value:
    return b.pointwise("hard_tanh", b.tensor(input), low=float(min_val), high=float(max_val))


@lowers_module(nn.Hardsigmoid)
def _(b: Builder, m: nn.Hardsigmoid, x: Any) -> Value:
    return hard_sigmoid(b, x)


@lowers_function(F.hardsigmoid)
def hard_sigmoid(b: Builder, input: Any, inplace: bool = False) -> Value:
    """min(max(x + 3, 0), 6)/6"""
    return b.affine(b.pointwise("relu6", b.affine(b.tensor(input), 1.0, 3.0)), 1 / 6, 0.0)


@lowers_function(torch.clamp)
@lowers_method("clamp", "clamp_")
def _(b: Builder, input: Any, min: Any = None, max: Any = None) -> Value:
    x = b.tensor(input)
    if (min, max) == (0, None):
        return b.pointwise("relu", x)
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in (min, max)):
        b.refuse(f"clamps to {min}…{max}, the engine needs two finite numbers, or 0 and none")
    return b.pointwise("hard_tanh", x, low=float(min), high=float(max))


@lowers_module(nn.Softmax)
def _(b: Builder, m: nn.Softmax, x: Any) -> Value:
    return softmax(b, x, m.dim)


@lowers_function(F.softmax, torch.softmax)
@lowers_method("softmax")
def softmax(b: Builder, input: Any, dim: Any = None, *, dtype: Any = None, **_unused: Any) -> Value:
    x = b.features(input)
    if dim not in (1, -1, None) or dtype not in (None, torch.float32):
        b.refuse(f"softmax over dim {dim}, the engine takes it over the classes, dim 1, only")
    return b.pointwise("softmax", x)


@lowers_module(nn.Identity)
def _(b: Builder, m: nn.Identity, x: Any) -> Value:
    return b.tensor(x)


@lowers_module(nn.Dropout)
def _(b: Builder, m: nn.Dropout, x: Any) -> Value:
    return dropout(b, x, m.p, m.training)


@lowers_function(F.dropout, torch.dropout)
def dropout(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    x = b.tensor(input)
    if not training or p == 0:
        return x
    if p == 1:
        return b.affine(x, 0.0, 0.0)
    b.training = True
    return b.pointwise("dropout", x, p=float(p))


@lowers_module(nn.Dropout2d)
def _(b: Builder, m: nn.Dropout2d, x: Any) -> Value:
    return dropout_maps(b, x, m.p, m.training)


@lowers_function(F.dropout2d)
def dropout_maps(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    x = b.maps(input)
    if training and p > 0 and x.shape[1:] != (1, 1):
        b.refuse("drops whole maps, the engine drops single units only")
    return dropout(b, x, p, training)
