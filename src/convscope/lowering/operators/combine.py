"""Sums, concatenation, and arithmetic with plain numbers."""

from __future__ import annotations

import operator
from typing import Any

import torch

from convscope.layers import AuxiliaryOutputs
from convscope.lowering.builder import Builder, Value, lowers_function, lowers_method

Number = int | float


@lowers_function(operator.add, operator.iadd, torch.add)
@lowers_method("add", "add_")
def _(b: Builder, input: Any, other: Any, *, alpha: Number = 1) -> Value:
    if isinstance(input, Number):
        input, other = (other, input) if alpha == 1 else b.refuse("alpha with a number in front")
    x = b.tensor(input)
    if isinstance(other, Number):
        return b.affine(x, 1.0, alpha * other)
    return _sum(b, x, _scaled(b, other, alpha))


@lowers_function(operator.sub, operator.isub, torch.sub)
@lowers_method("sub", "sub_")
def _(b: Builder, input: Any, other: Any, *, alpha: Number = 1) -> Value:
    if isinstance(input, Number):
        return b.affine(b.tensor(other), -float(alpha), float(input))
    x = b.tensor(input)
    if isinstance(other, Number):
        return b.affine(x, 1.0, -alpha * other)
    return _sum(b, x, _scaled(b, other, -alpha))


@lowers_function(operator.mul, operator.imul, torch.mul)
@lowers_method("mul", "mul_")
def _(b: Builder, input: Any, other: Any) -> Value:
    x, factor = (other, input) if isinstance(input, Number) else (input, other)
    if not isinstance(factor, Number):
        b.refuse("multiplies two tensors, the engine multiplies by plain numbers only")
    return b.affine(b.tensor(x), float(factor), 0.0)


@lowers_function(operator.truediv, operator.itruediv, torch.div)
@lowers_method("div", "div_")
def _(b: Builder, input: Any, other: Any, *, rounding_mode: str | None = None) -> Value:
    if not isinstance(other, Number) or rounding_mode is not None:
        b.refuse("the engine divides by plain numbers only, without rounding")
    return b.affine(b.tensor(input), 1 / other, 0.0)


@lowers_function(torch.cat, torch.concat, torch.concatenate)
def _(b: Builder, tensors: Any, dim: int = 0) -> Value:
    parts = [b.tensor(each) for each in tensors]
    first = parts[0]
    if dim not in ((1, -1) if first.flat else (1, -3)):
        b.refuse(f"concatenates along dim {dim}, the engine along the channels, dim 1, only")
    for each in parts:
        if each.shape[1:] != first.shape[1:] or each.flat != first.flat:
            b.refuse(f"concatenates {b.shown(first)} with {b.shown(each)}, whose other sides differ")
    if len(parts) == 1:
        return first
    return b.record("concat", parts, (sum(each.shape[0] for each in parts), *first.shape[1:]))


def _scaled(b: Builder, x: Any, factor: Number) -> Value:
    return b.tensor(x) if factor == 1 else b.affine(b.tensor(x), float(factor), 0.0)


def _sum(b: Builder, x: Value, y: Value) -> Value:
    if x.shape != y.shape or x.flat != y.flat:
        b.refuse(f"adds {b.shown(x)} and {b.shown(y)}, the engine adds tensors of one shape only")
    return b.record("add", [x, y], x.shape)


@lowers_function(AuxiliaryOutputs)
def _(b: Builder, logits: Any, auxiliary: Any, weight: float) -> AuxiliaryOutputs:
    return AuxiliaryOutputs(logits, tuple(auxiliary), weight)
