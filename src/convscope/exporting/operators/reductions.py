"""Sums, means, maxima, and what looks numbers up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.extents import Extent, Sized
from convscope.exporting.writer import CONVERTERS, Writer, converts


def _axes(x: Sized, dim: Any) -> list[int]:
    """The axes of ``dim``: all of them where none is named."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(len(x.shape)))
    return [each % len(x.shape) for each in ([dim] if isinstance(dim, int) else dim)]


def _reduced(write: Writer, kind: str, x: Any, axes: list[int], keepdim: bool) -> Any:
    if not axes:
        return write.node("Identity", x)
    return write.node(kind, x, write.integers(axes), keepdims=int(keepdim))


def _reduction(kind: str) -> Any:
    def convert(write: Writer, result: Sized, x: Sized, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
        return _reduced(write, kind, write.cast(x, result.dtype), _axes(x, dim), keepdim)

    return convert


for _name, _kind in {
    "mean.dim": "ReduceMean", "mean.default": "ReduceMean", "sum.dim_IntList": "ReduceSum", "sum.default": "ReduceSum",
    "amax.default": "ReduceMax", "amin.default": "ReduceMin", "max.default": "ReduceMax", "min.default": "ReduceMin",
    "prod.dim_int": "ReduceProd", "prod.default": "ReduceProd", "logsumexp.default": "ReduceLogSumExp",
}.items():  # fmt: skip
    CONVERTERS[f"aten.{_name}"] = _reduction(_kind)


@converts("any.dim", "any.dims", "any.default", "all.dim", "all.dims", "all.default")
def quantifier(write: Writer, result: Sized, x: Sized, dim: Any = None, keepdim: bool = False) -> Any:
    kind = "ReduceMax" if ".any." in write.step else "ReduceMin"
    numbers = write.cast(write.cast(x, torch.bool), torch.int32)
    return write.cast(_reduced(write, kind, numbers, _axes(x, dim), keepdim), torch.bool)


@converts("var.correction", "var_mean.correction")
def variance(
    write: Writer, result: Sized, x: Sized, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> Any:
    axes = _axes(x, dim)
    sides = [x.shape[axis] for axis in axes]
    if any(isinstance(each, Extent) for each in sides):
        raise ExportError(write.layer, "a variance over the batch: an answer depends on its neighbours")
    count = math.prod(each for each in sides if isinstance(each, int))
    less = 1 if correction is None else correction
    mean = _reduced(write, "ReduceMean", x, axes, True)
    apart = write.node("Sub", x, mean)
    squares = _reduced(write, "ReduceMean", write.node("Mul", apart, apart), axes, keepdim)
    y = write.node("Mul", squares, write.scalar(count / (count - less), x.dtype)) if less else squares
    if "var_mean" not in write.step:
        return y
    return y, mean if keepdim else write.node("Squeeze", mean, write.integers(axes))


@converts("linalg_vector_norm.default", "norm.ScalarOpt_dim", "norm.Scalar")
def norm(write: Writer, result: Sized, x: Sized, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    kinds = {1: "ReduceL1", 2: "ReduceL2"}
    if ord not in kinds:
        raise ExportError(write.layer, f"a norm of order {ord}; 1 and 2 can be written")
    return _reduced(write, kinds[ord], x, _axes(x, dim), keepdim)


@converts("_softmax.default", "_safe_softmax.default")
def softmax(write: Writer, result: Sized, x: Any, dim: int, *_: Any) -> Any:
    return write.node("Softmax", x, axis=dim)


@converts("_log_softmax.default")
def log_softmax(write: Writer, result: Sized, x: Any, dim: int, *_: Any) -> Any:
    return write.node("LogSoftmax", x, axis=dim)


@converts("max.dim", "min.dim")
def extreme(write: Writer, result: Sized, x: Sized, dim: int, keepdim: bool = False) -> Any:
    kind = "Max" if ".max." in write.step else "Min"
    best = _reduced(write, f"Reduce{kind}", x, _axes(x, dim), keepdim)
    return best, write.node(f"Arg{kind}", x, axis=dim, keepdims=int(keepdim))


@converts("argmax.default", "argmin.default")
def argument(write: Writer, result: Sized, x: Sized, dim: int | None = None, keepdim: bool = False) -> Any:
    kind = "ArgMax" if "argmax" in write.step else "ArgMin"
    if dim is None:
        flat = write.node("Reshape", x, write.integers([-1]))
        place = write.node(kind, flat, axis=0, keepdims=0)
        return write.node("Reshape", place, write.sizes(result.shape)) if result.shape else place
    return write.node(kind, x, axis=dim, keepdims=int(keepdim))


@converts("topk.default")
def topk(
    write: Writer, result: Sized, x: Sized, k: int, dim: int = -1, largest: bool = True, ordered: bool = True
) -> Any:
    count = write.integers([k])
    return write.node("TopK", x, count, outputs=2, axis=dim, largest=int(largest), sorted=int(ordered))


@converts("cumsum.default")
def cumsum(write: Writer, result: Sized, x: Any, dim: int, **_: Any) -> Any:
    return write.node("CumSum", write.cast(x, result.dtype), write.scalar(dim, torch.int64))


@converts("gather.default")
def gather(write: Writer, result: Sized, x: Any, dim: int, index: Any, **_: Any) -> Any:
    return write.node("GatherElements", x, index, axis=dim)


@converts("index_select.default")
def index_select(write: Writer, result: Sized, x: Any, dim: int, index: Any) -> Any:
    return write.node("Gather", x, index, axis=dim)


@converts("index.Tensor")
def index(write: Writer, result: Sized, x: Any, indices: Sequence[Any]) -> Any:
    """x[…, i, j, …] with arrays of whole numbers: the axes that they are for become one, which is gathered from."""
    asked = {axis: each for axis, each in enumerate(indices) if each is not None}
    if any(each.dtype == torch.bool for each in asked.values()):
        raise ExportError(write.layer, "choosing by a mask: how much is chosen depends on the numbers")
    axes = list(asked)
    sides = [x.shape[axis] for axis in axes]
    if len(axes) == 1:
        return write.node("Gather", x, asked[axes[0]], axis=axes[0])
    if any(isinstance(each, Extent) for each in sides) or not all(isinstance(each, int) for each in sides):
        raise ExportError(write.layer, "choosing among the examples of a batch and within them at once")
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    first = axes[0] if together else 0
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    order = [*rest[:first], *axes, *rest[first:]]
    y = write.node("Transpose", x, perm=order)
    shape = [x.shape[axis] for axis in order]
    joined = [*shape[:first], math.prod(sides), *shape[first + len(axes) :]]
    y = write.node("Reshape", y, write.sizes(joined, free=True))
    return write.node("Gather", y, _place(write, asked, sides), axis=first)


def _place(write: Writer, asked: dict[int, Any], sides: list[Any]) -> Any:
    """Σ index · stride over the axes asked for, indices below 0 counted from the end."""
    if all(isinstance(each, Tensor) for each in asked.values()):
        place = torch.zeros((), dtype=torch.int64)
        for each, side in zip(asked.values(), sides, strict=True):
            place = place * side + torch.where(each < 0, each + side, each)
        return place
    total: Any = None
    for each, side in zip(asked.values(), sides, strict=True):
        size, zero = write.scalar(side, torch.int64), write.scalar(0, torch.int64)
        whole = write.cast(each, torch.int64)
        own = write.node("Where", write.node("Less", whole, zero), write.node("Add", whole, size), whole)
        total = own if total is None else write.node("Add", write.node("Mul", total, size), own)
    return total
