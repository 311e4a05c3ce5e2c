"""Arithmetic between tensors, parameters and numbers; joining tensors along a side."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch

from convscope.layers import AuxiliaryOutputs
from convscope.lowering.builder import Builder, lowers_function, lowers_method
from convscope.lowering.plan import Shape
from convscope.lowering.values import Sizes, Value, folded

Number = int | float


@lowers_function(operator.add, operator.iadd, torch.add)
@lowers_method("add", "add_", "__add__", "__radd__")
def _(b: Builder, input: Any, other: Any, *, alpha: Number = 1) -> Value:
    if isinstance(input, Number):
        input, other = (other, input) if alpha == 1 else b.refuse("alpha with a number in front")
    if isinstance(other, Number):
        return b.affine(b.tensor(input), 1.0, alpha * other)
    return pair(b, "add", input, _scaled(b, other, alpha))


@lowers_function(operator.sub, operator.isub, torch.sub, torch.subtract)
@lowers_method("sub", "sub_", "subtract", "__sub__")
def _(b: Builder, input: Any, other: Any, *, alpha: Number = 1) -> Value:
    if isinstance(input, Number):
        return b.affine(b.tensor(other), -float(alpha), float(input))
    if isinstance(other, Number):
        return b.affine(b.tensor(input), 1.0, -alpha * other)
    return pair(b, "subtract", input, _scaled(b, other, alpha))


@lowers_method("__rsub__")
@lowers_function(torch.rsub)
def _(b: Builder, input: Any, other: Any) -> Value:
    return (
        b.affine(b.tensor(input), -1.0, float(other))
        if isinstance(other, Number)
        else pair(b, "subtract", other, input)
    )


@lowers_function(operator.mul, operator.imul, torch.mul, torch.multiply)
@lowers_method("mul", "mul_", "multiply", "__mul__", "__rmul__")
def multiply(b: Builder, input: Any, other: Any) -> Value:
    x, factor = (other, input) if isinstance(input, Number) else (input, other)
    if isinstance(factor, Number):
        return b.affine(b.tensor(x), float(factor), 0.0)
    return pair(b, "multiply", x, factor)


@lowers_function(operator.truediv, operator.itruediv, torch.div, torch.true_divide, torch.divide)
@lowers_method("div", "div_", "divide", "__truediv__")
def divide(b: Builder, input: Any, other: Any, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        b.refuse("the engine divides without rounding only")
    if isinstance(other, Number):
        return b.affine(b.tensor(input), 1 / other, 0.0)
    if isinstance(input, Number):
        inverse = b.pointwise("reciprocal", b.tensor(other))
        return inverse if input == 1 else b.affine(inverse, float(input), 0.0)
    return pair(b, "divide", input, other)


@lowers_function(torch.maximum)
@lowers_method("maximum")
def maximum(b: Builder, input: Any, other: Any) -> Value:
    return pair(b, "maximum", input, other)


@lowers_function(torch.minimum)
@lowers_method("minimum")
def minimum(b: Builder, input: Any, other: Any) -> Value:
    return pair(b, "minimum", input, other)


def _scaled(b: Builder, x: Any, factor: Number) -> Any:
    return x if factor == 1 else b.affine(operand(b, x, None), float(factor), 0.0)


def operand(b: Builder, x: Any, beside: Value | None) -> Value:
    """A tensor of the model's own beside one that depends on the image; torch lines their sides up from the last."""
    if isinstance(x, Value):
        return x
    if not isinstance(x, torch.Tensor):
        b.refuse(f"takes {b.shown(x)} where the engine needs a tensor")
    sizes = tuple(x.shape)
    sides = len(sizes) if beside is None else len(beside.sizes)
    if len(sizes) == sides + 1 and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) > sides:
        b.refuse(f"combines {b.shown(beside)} with a tensor of {tuple(x.shape)}, which would mix images of the batch")
    return b.held(x, (1,) * (sides - len(sizes)) + sizes)


def pair(b: Builder, kind: str, x: Any, y: Any) -> Value:
    """x ∘ y, sides of 1 repeated as torch does."""
    if not isinstance(x, Value) and not isinstance(y, Value):
        b.refuse(f"takes {b.shown(x)} and {b.shown(y)}, neither of which depends on the image")
    x, y = (operand(b, one, other if isinstance(other, Value) else None) for one, other in ((x, y), (y, x)))
    return _combined(b, kind, x, y)


def _combined(b: Builder, kind: str, x: Value, y: Value) -> Value:
    pairs = list(zip(x.sizes, y.sizes, strict=False))
    if len(x.sizes) != len(y.sizes) or any(1 not in each and each[0] != each[1] for each in pairs):
        b.refuse(f"combines {b.shown(x)} with {b.shown(y)}, whose sides do not go together")
    sizes = tuple(map(max, x.sizes, y.sizes))
    if x.sizes == y.sizes and x.is_whole and y.is_whole and (x.strides, x.shape) == (y.strides, y.shape):
        return x.like(b.record(kind, [x, y], x.shape).number)
    order = next((each.memory_order for each in (x, y) if each.sizes == sizes and each.memory_order), None)
    order = order or tuple(range(len(sizes)))
    x, y = x.permuted(order), y.permuted(order)
    found = _shapes(x, y)
    if found is None:  # more than three changes between sides that both have and sides that one has
        x, y = (each.expanded([sizes[axis] for axis in order]) for each in (x, y))
        found = (folded(x.sizes),) * 2
    result = b.record(
        kind,
        [b.arranged(x, found[0]), b.arranged(y, found[1])],
        _joint(*found),
        sizes=tuple(sizes[axis] for axis in order),
    )
    return result.permuted([order.index(axis) for axis in range(len(sizes))])


def _joint(one: Shape, other: Shape) -> Shape:
    return (max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2]))


def _shapes(x: Value, y: Value) -> tuple[Shape, Shape] | None:
    """Maps for both such that each of the three sides is whole in both or 1 in one; None where three do not do."""
    groups: list[tuple[int, int]] = []
    for own, other in zip(x.sizes, y.sizes, strict=True):
        if own == other == 1:
            continue
        if groups and _kind(own, other) == _kind(*groups[-1]):
            groups[-1] = (groups[-1][0] * own, groups[-1][1] * other)
        else:
            groups.append((own, other))
    if len(groups) > 3:
        return None
    groups = groups or [(1, 1)]
    whole = [max(each) for each in groups]
    for value in (x, y):  # the maps of one that is there as a whole, where its sides fall on the groups' ends
        if value.in_order and value.size == math.prod(whole) and (cut := cut_sides(value.shape, whole)) is not None:
            halves = [tuple(1 if groups[g][i] == 1 else side for side, g in cut) for i in (0, 1)]
            return halves[0], halves[1]  # type: ignore[return-value]
    filled = [(1, 1)] * (3 - len(groups)) if len(groups) != 2 else []
    padded = [*filled, *groups] if len(groups) != 2 else [groups[0], (1, 1), groups[1]]
    return tuple(each[0] for each in padded), tuple(each[1] for each in padded)  # type: ignore[return-value]


def _kind(own: int, other: int) -> str:
    return "both" if own == other else "x" if other == 1 else "y"


def cut_sides(shape: Shape, groups: Sizes | list[int]) -> list[tuple[int, int]] | None:
    """(side, its group) for each side of ``shape``, whose sides fill the groups one after another; None if they don't.

    >>> cut_sides((6, 4, 5), [6, 20])
    [(6, 0), (4, 1), (5, 1)]
    """
    found: list[tuple[int, int]] = []
    group, left = 0, groups[0] if groups else 1
    for side in shape:
        if left == 1 and side > 1 and group + 1 < len(groups):
            group += 1
            left = groups[group]
        if left % side:
            return None
        left //= side
        found.append((side, group))
    return found if left == 1 and group >= len(groups) - 1 else None


@lowers_function(torch.cat, torch.concat, torch.concatenate)
def join(b: Builder, tensors: Any, dim: int = 0, *, axis: int | None = None) -> Value:
    parts = [b.tensor(each) for each in tensors]
    first = parts[0]
    side = b.axis(dim if axis is None else axis, first, "concatenates along dim")
    for each in parts:
        others = [each.sizes[:side] + each.sizes[side + 1 :] for each in (first, each)]
        if len(each.sizes) != len(first.sizes) or others[0] != others[1]:
            b.refuse(f"concatenates {b.shown(first)} with {b.shown(each)}, whose other sides differ")
    if len(parts) == 1:
        return first
    longest = max(parts, key=lambda each: each.size)
    arranged, back = b.with_first(longest, side)
    order = [back.index(axis) for axis in range(len(back))]
    sides = arranged.shape[1:]
    moved = [b.arranged(each.permuted(order), (each.sizes[side], *sides)) for each in parts]
    shape = (sum(each.shape[0] for each in moved), *sides)
    sizes = (shape[0], *arranged.sizes[1:])
    return b.record("concat", moved, shape, sizes=sizes).permuted(back)


@lowers_function(torch.stack)
def _(b: Builder, tensors: Any, dim: int = 0) -> Value:
    parts = [b.tensor(each) for each in tensors]
    sides = len(parts[0].sizes) + 2
    if dim % sides == 0:
        b.refuse("stacks along dim 0, the batch, whose images the engine keeps apart")
    return join(b, [each.with_new(dim % sides - 1) for each in parts], dim % sides)


@lowers_function(AuxiliaryOutputs)
def _(b: Builder, logits: Any, auxiliary: Any, weight: float) -> AuxiliaryOutputs:
    return AuxiliaryOutputs(logits, tuple(auxiliary), weight)
