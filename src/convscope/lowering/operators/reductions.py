"""Sums, means, maxima and norms over sides."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from convscope.lowering.builder import Builder, lowers_function, lowers_method
from convscope.lowering.operators.combine import cut_sides, multiply, pair
from convscope.lowering.plan import Attribute, Shape
from convscope.lowering.values import Value


class Extremum(NamedTuple):
    """What ``x.max(dim)`` returns; the engine does not give the places away."""

    values: Value
    indices: None = None


def reduce(b: Builder, kind: str, x: Value, axes: set[int], keepdim: bool, **more: Attribute) -> Value:
    """``x`` with ``kind`` of "reduce_sum", "reduce_mean" or "reduce_max" taken over some of its sides."""
    x = b.whole(x)
    order = x.memory_order
    assert order is not None
    groups = _groups([(x.sizes[axis], axis in axes) for axis in order])
    if len(groups) > 3:
        order = (*(axis for axis in order if axis not in axes), *(axis for axis in order if axis in axes))
        groups = _groups([(x.sizes[axis], axis in axes) for axis in order])
    moved = x.permuted(order)
    shape, over = _maps_of(moved, groups)
    source = b.arranged(moved, shape)
    kept = tuple(1 if axis in axes else x.sizes[axis] for axis in order)
    output = tuple(1 if gone else side for side, gone in zip(shape, over, strict=True))
    result_shape: Shape = (output[0], output[1], output[2])
    if kind == "reduce_mean" and over == [0, 1, 1]:
        result = b.record("global_mean", source, result_shape, sizes=kept)
    else:
        result = b.record(kind, source, result_shape, {"over": over, **more}, sizes=kept)
    result = result.permuted([order.index(axis) for axis in range(len(order))])
    for axis in sorted(axes, reverse=True):
        result = result if keepdim else result.without(axis)
    return result


def _groups(sides: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """(numbers, whether they are reduced) of neighbouring sides that have the same fate."""
    groups: list[tuple[int, bool]] = []
    for size, gone in sides:
        if size == 1:
            continue
        if groups and groups[-1][1] == gone:
            groups[-1] = (groups[-1][0] * size, gone)
        else:
            groups.append((size, gone))
    return groups or [(1, True)]


def _maps_of(x: Value, groups: list[tuple[int, bool]]) -> tuple[Shape, list[int]]:
    """Maps for ``x``, and for each of their sides whether it is reduced: its own where their ends fall together."""
    cut = cut_sides(x.shape, [size for size, _ in groups]) if x.in_order else None
    if cut is not None:
        return x.shape, [int(groups[group][1]) for _, group in cut]
    if len(groups) == 2:
        groups = [groups[0], (1, False), groups[1]]
    groups = [(1, False)] * (3 - len(groups)) + groups
    (c, over_c), (h, over_h), (w, over_w) = groups
    return (c, h, w), [int(over_c), int(over_h), int(over_w)]


def _axes(b: Builder, x: Value, dim: Any, what: str) -> set[int]:
    dims = [dim] if isinstance(dim, int) else list(dim or ())
    if not dims:
        b.refuse(f"{what} over all sides, also the batch's; name the dims")
    return {b.axis(each, x, f"{what} over") for each in dims}


@lowers_function(torch.mean)
@lowers_method("mean")
def mean(b: Builder, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = b.tensor(input)
    _check_type(b, dtype)
    return reduce(b, "reduce_mean", x, _axes(b, x, dim, "mean"), keepdim)


@lowers_function(torch.sum)
@lowers_method("sum")
def total(b: Builder, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = b.tensor(input)
    _check_type(b, dtype)
    return reduce(b, "reduce_sum", x, _axes(b, x, dim, "sum"), keepdim)


def _check_type(b: Builder, dtype: Any) -> None:
    if dtype not in (None, torch.float32):
        b.refuse(f"dtype={dtype}, the engine computes in torch.float32")


@lowers_function(torch.amax)
@lowers_method("amax")
def _(b: Builder, input: Any, dim: Any = (), keepdim: bool = False) -> Value:
    """Equal maxima share δ."""
    x = b.tensor(input)
    return reduce(b, "reduce_max", x, _axes(b, x, dim, "maximum"), keepdim, share=1)


@lowers_function(torch.amin)
@lowers_method("amin")
def _(b: Builder, input: Any, dim: Any = (), keepdim: bool = False) -> Value:
    x = b.affine(b.tensor(input), -1.0, 0.0)
    return b.affine(reduce(b, "reduce_max", x, _axes(b, x, dim, "minimum"), keepdim, share=1), -1.0, 0.0)


@lowers_function(torch.max)
@lowers_method("max")
def _(b: Builder, input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The first of equal maxima has δ."""
    if not isinstance(dim, int):
        return (
            pair(b, "maximum", input, dim) if dim is not None else b.refuse("maximum over all sides, also the batch's")
        )
    x = b.tensor(input)
    return Extremum(reduce(b, "reduce_max", x, _axes(b, x, dim, "maximum"), keepdim))


@lowers_function(torch.min)
@lowers_method("min")
def _(b: Builder, input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    if not isinstance(dim, int):
        return (
            pair(b, "minimum", input, dim) if dim is not None else b.refuse("minimum over all sides, also the batch's")
        )
    x = b.affine(b.tensor(input), -1.0, 0.0)
    return Extremum(b.affine(reduce(b, "reduce_max", x, _axes(b, x, dim, "minimum"), keepdim), -1.0, 0.0))


@lowers_function(torch.var)
@lowers_method("var")
def variance(
    b: Builder, input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Value:
    """Σ (x − mean)²/(n − correction)"""
    x = b.tensor(input)
    axes = _axes(b, x, dim, "variance")
    centred = pair(b, "subtract", x, reduce(b, "reduce_mean", x, axes, True))
    squares = reduce(b, "reduce_sum", b.pointwise("power", centred, exponent=2.0), axes, keepdim)
    off = int(unbiased) if correction is None else correction
    return b.affine(squares, 1 / max(math.prod(x.sizes[axis] for axis in axes) - off, 0), 0.0)


@lowers_function(torch.std)
@lowers_method("std")
def _(b: Builder, input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **more: Any) -> Value:
    return b.pointwise("square_root", variance(b, input, dim, unbiased, keepdim, **more))


@lowers_function(torch.norm, torch.linalg.vector_norm)
@lowers_method("norm")
def norm(
    b: Builder, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, *, ord: Any = None, dtype: Any = None
) -> Value:
    """√Σ x², or Σ |x|"""
    x = b.tensor(input)
    if dtype not in (None, torch.float32):
        b.refuse(f"takes the norm in {dtype}, the engine computes in float32")
    power = p if ord is None else ord
    axes = _axes(b, x, dim, "norm")
    if power in (2, "fro"):
        return b.pointwise("square_root", reduce(b, "reduce_sum", multiply(b, x, x), axes, keepdim))
    if power == 1:
        return reduce(b, "reduce_sum", b.pointwise("absolute", x), axes, keepdim)
    return b.refuse(f"takes the norm of power {power}, the engine knows 1 and 2")


@lowers_function(torch.nn.functional.normalize)
def _(b: Builder, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Value:
    x = b.tensor(input)
    length = b.pointwise("clamp", norm(b, x, p, dim, True), low=float(eps))
    return pair(b, "divide", x, length)
