"""What moves numbers and computes none: shapes, parts, joins, borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from convscope.errors import ExportError
from convscope.exporting.extents import Extent, Sized
from convscope.exporting.operators.elementwise import operand
from convscope.exporting.writer import Writer, converts

_END = 2**63 - 1


@converts(
    "view.default", "_unsafe_view.default", "reshape.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
    "unsqueeze.default", "flatten.using_ints",
)  # fmt: skip
def reshape(write: Writer, result: Sized, x: Sized, *_: Any, **__: Any) -> Any:
    return write.node("Reshape", x, write.sizes(result.shape, free=True), allowzero=1 if 0 in result.shape else None)


@converts("permute.default")
def permute(write: Writer, result: Sized, x: Sized, dims: Sequence[int]) -> Any:
    return write.node("Transpose", x, perm=[each % len(dims) for each in dims])


@converts("transpose.int")
def transpose(write: Writer, result: Sized, x: Sized, first: int, second: int) -> Any:
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return write.node("Transpose", x, perm=order)


@converts("t.default")
def t(write: Writer, result: Sized, x: Sized) -> Any:
    return write.node("Transpose", x, perm=list(range(len(x.shape)))[::-1])


@converts("expand.default")
def expand(write: Writer, result: Sized, x: Sized, size: Any, **_: Any) -> Any:
    return write.node("Identity", x) if x.shape == result.shape else write.node("Expand", x, write.sizes(result.shape))


@converts("repeat.default")
def repeat(write: Writer, result: Sized, x: Sized, times: Sequence[Any]) -> Any:
    y: Any = x
    if len(times) > len(x.shape):
        y = write.node("Reshape", x, write.sizes([*[1] * (len(times) - len(x.shape)), *x.shape]))
    return write.node("Tile", y, write.sizes(times))


@converts("cat.default")
def cat(write: Writer, result: Sized, parts: Sequence[Any], dim: int = 0) -> Any:
    # torch leaves out empty parts of shape (0,) whatever the others are
    given = [each for each in parts if tuple(each.shape) != (0,)]
    return write.node("Concat", *(write.cast(each, result.dtype) for each in given), axis=dim % len(result.shape))


@converts("stack.default")
def stack(write: Writer, result: Sized, parts: Sequence[Any], dim: int = 0) -> Any:
    axis = dim % len(result.shape)
    wide = [write.node("Unsqueeze", each, write.integers([axis])) for each in parts]
    return write.node("Concat", *wide, axis=axis)


@converts("slice.Tensor")
def slice_(
    write: Writer, result: Sized, x: Sized, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    begin, stop = (0 if start is None else start), (_END if end is None else end)
    return write.node("Slice", x, write.size(begin), write.size(stop), write.integers([dim]), write.integers([step]))


@converts("select.int")
def select(write: Writer, result: Sized, x: Any, dim: int, index: Any) -> Any:
    place = write.node("Squeeze", write.size(index), write.integers([0]))
    return write.node("Gather", x, place, axis=dim)


@converts("split.Tensor", "split_with_sizes.default", "unsafe_split.Tensor")
def split(write: Writer, result: Sized, x: Sized, sizes: Any, dim: int = 0) -> Any:
    """Parts along an axis, each cut out."""
    parts, begin = [], 0
    for each in write.results:
        length = each.shape[dim]
        if isinstance(length, Extent):
            raise ExportError(write.layer, "taking a batch apart")
        ends = write.integers([begin]), write.integers([begin + length])
        parts.append(write.node("Slice", x, *ends, write.integers([dim])))
        begin += length
    return tuple(parts)


@converts("unbind.int")
def unbind(write: Writer, result: Sized, x: Sized, dim: int = 0) -> Any:
    if isinstance(x.shape[dim], Extent):
        raise ExportError(write.layer, "taking a batch apart")
    return tuple(
        write.node("Gather", x, write.scalar(place, torch.int64), axis=dim) for place in range(len(write.results))
    )


@converts("constant_pad_nd.default")
def constant_pad(write: Writer, result: Sized, x: Sized, pad: Sequence[int], value: Any = 0) -> Any:
    return _padded(write, x, pad, "constant", write.scalar(value, x.dtype))


@converts(
    "reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default", "replication_pad1d.default",
    "replication_pad2d.default", "replication_pad3d.default",
)  # fmt: skip
def border(write: Writer, result: Sized, x: Sized, pad: Sequence[int]) -> Any:
    return _padded(write, x, pad, "reflect" if "reflection" in write.step else "edge", None)


def _padded(write: Writer, x: Sized, pad: Sequence[int], mode: str, value: Any) -> Any:
    """``pad`` as torch has it: (before, after) of the last axis, of the one before it …"""
    rest = [0] * (len(x.shape) - len(pad) // 2)
    before, after = [*rest, *pad[-2::-2]], [*rest, *pad[::-2]]
    return write.node("Pad", x, write.integers([*before, *after]), value, mode=mode)


@converts("flip.default")
def flip(write: Writer, result: Sized, x: Sized, dims: Sequence[int]) -> Any:
    many = len(dims)
    starts, ends, steps = (write.integers([each] * many) for each in (-1, -_END, -1))
    return write.node("Slice", x, starts, ends, write.integers([each % len(x.shape) for each in dims]), steps)


@converts("channel_shuffle.default")
def channel_shuffle(write: Writer, result: Sized, x: Sized, groups: int) -> Any:
    """(n, groups · k, …) → (n, k · groups, …)."""
    channels = x.shape[1]
    assert isinstance(channels, int)
    rest = x.shape[2:]
    apart = write.node("Reshape", x, write.sizes([x.shape[0], groups, channels // groups, *rest], free=True))
    turned = write.node("Transpose", apart, perm=[0, 2, 1, *range(3, 3 + len(rest))])
    return write.node("Reshape", turned, write.sizes(result.shape, free=True))


@converts("pixel_shuffle.default")
def pixel_shuffle(write: Writer, result: Sized, x: Sized, factor: int) -> Any:
    return write.node("DepthToSpace", x, blocksize=factor, mode="CRD")


@converts("unfold.default")
def unfold(write: Writer, result: Sized, x: Sized, dimension: int, size: int, step: int) -> Any:
    """Windows of ``size`` every ``step`` along an axis; the places within a window become the last axis."""
    axis = dimension % len(x.shape)
    windows = result.shape[axis]
    assert isinstance(windows, int)
    places = torch.arange(windows)[:, None] * step + torch.arange(size)  # (windows, size)
    y = write.node("Gather", x, places, axis=axis)
    order = [each for each in range(len(x.shape) + 1) if each != axis + 1] + [axis + 1]
    return write.node("Transpose", y, perm=order)


@converts("zeros_like.default", "ones_like.default", "full_like.default", "new_zeros.default", "new_ones.default")
def filled_like(write: Writer, result: Sized, x: Any, *more: Any, **_: Any) -> Any:
    value = more[0] if "full" in write.step else int("ones" in write.step)
    return write.node("Expand", write.scalar(value, result.dtype), write.sizes(result.shape))


@converts("new_full.default")
def new_full(write: Writer, result: Sized, x: Any, size: Any, value: Any, **_: Any) -> Any:
    return write.node("Expand", write.scalar(value, result.dtype), write.sizes(result.shape))


@converts("fill.Scalar", "fill.Tensor")
def fill(write: Writer, result: Sized, x: Any, value: Any) -> Any:
    return write.node("Expand", operand(write, value, result.dtype), write.sizes(result.shape))


@converts("copy.default")
def copy(write: Writer, result: Sized, x: Any, source: Any, *_: Any) -> Any:
    return write.node("Expand", write.cast(source, result.dtype), write.sizes(result.shape))


@converts("slice_scatter.default")
def slice_scatter(
    write: Writer,
    result: Sized,
    x: Sized,
    source: Any,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Any:
    """``x`` with ``source`` in the place of a part: what lies before, ``source``, what lies behind."""
    side = x.shape[dim]
    if step != 1:
        raise ExportError(write.layer, "writing to every second place, or third …")
    if isinstance(side, Extent) or isinstance(start, Extent) or (isinstance(end, Extent)):
        by_length = any(isinstance(each, Extent) and each.steps for each in (side, start, end))
        if start in (0, None) and not by_length:
            return write.node("Identity", write.cast(source, result.dtype))
        raise ExportError(write.layer, "writing to a part of the batch")
    begin, stop, _ = slice(start, end).indices(side)
    axes = write.integers([dim])
    parts = []
    if begin > 0:
        parts.append(write.node("Slice", x, write.integers([0]), write.integers([begin]), axes))
    parts.append(write.cast(source, result.dtype))
    if stop < side:
        parts.append(write.node("Slice", x, write.integers([stop]), write.integers([side]), axes))
    return write.node("Concat", *parts, axis=dim)


@converts("select_scatter.default")
def select_scatter(write: Writer, result: Sized, x: Sized, source: Any, dim: int, index: int) -> Any:
    side = x.shape[dim]
    if isinstance(side, Extent):
        raise ExportError(write.layer, "writing to one example of the batch")
    place = index % side
    wide = write.node("Unsqueeze", write.cast(source, result.dtype), write.integers([dim]))
    return slice_scatter(write, result, x, wide, dim, place, place + 1)
