"""Pooling: torch's rules for what lies beyond the border, written out where ONNX has others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.extents import Sized, whole_sizes
from convscope.exporting.writer import Writer, converts


def _each(values: Sequence[int], rank: int) -> list[int]:
    return list(values) * (rank // len(values)) if values else []


def _ends(x: Sized, result: Sized, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int]) -> Any:
    """How many rows and columns must follow the input so that the windows that torch takes are all within; at least
    ``pad``."""
    rank = len(kernel)
    return [
        max(p, (out - 1) * s + d * (k - 1) + 1 - size - p)
        for out, size, k, s, p, d in zip(
            result.shape[-rank:], x.shape[-rank:], kernel, stride, pad, dilation, strict=True
        )
    ]


def _padded(write: Writer, x: Any, rank: int, dims: int, before: list[int], after: list[int], value: float) -> Any:
    quiet = [0] * (dims - rank)
    pads = write.integers([*quiet, *before, *quiet, *after])
    return write.node("Pad", x, pads, write.scalar(value, x.dtype))


@converts("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def max_pool(
    write: Writer,
    result: Sized,
    x: Sized,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Any:
    """The maxima, and where each lies within its map: ONNX counts through the whole tensor, torch within a map."""
    rank = 3 if len(kernel) == 3 else 2
    kernel, pad, dilation = _each(kernel, rank), _each(padding, rank), _each(dilation, rank)
    stride = _each(stride, rank) or kernel
    ends = _ends(x, result, kernel, stride, pad, dilation)
    dims = len(x.shape)
    given: Any = x
    if any(end >= k for end, k in zip(ends, kernel, strict=True)):
        raise ExportError(write.layer, "max pooling whose windows lie beyond the picture altogether")
    if dims == rank + 1:
        given = write.node("Unsqueeze", x, write.integers([0]))
    y, places = write.node(
        "MaxPool", given, outputs=2, kernel_shape=kernel, strides=stride, pads=[*pad, *ends], dilations=dilation
    )
    spatial = x.shape[-rank:]
    if not all(isinstance(each, int) for each in spatial):
        raise ExportError(write.layer, "max pooling along the batch")
    area = math.prod(each for each in spatial if isinstance(each, int))
    within = write.node("Mod", places, write.integers([area]))
    if dims == rank + 1:
        axis = write.integers([0])
        return write.node("Squeeze", y, axis), write.node("Squeeze", within, axis)
    return y, within


def _averages(rank: int) -> Callable[..., Any]:
    pool: Callable[..., Tensor] = F.avg_pool2d if rank == 2 else F.avg_pool3d

    def convert(
        write: Writer,
        result: Sized,
        x: Sized,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        kernel, pad = _each(kernel, rank), _each(padding, rank)
        stride = _each(stride, rank) or kernel
        given: Any = x
        if flat := len(x.shape) == rank + 1:
            given = write.node("Unsqueeze", x, write.integers([0]))
        if not ceil_mode and divisor_override is None:
            y = write.node(
                "AveragePool", given, kernel_shape=kernel, strides=stride, pads=pad * 2,
                count_include_pad=int(count_include_pad),
            )  # fmt: skip
        else:
            y = _written_out(write, result, x, given, kernel, stride, pad, pool, divisor_override, count_include_pad)
        return write.node("Squeeze", y, write.integers([0])) if flat else y

    return convert


def _written_out(
    write: Writer,
    result: Sized,
    x: Sized,
    given: Any,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    pool: Callable[..., Tensor],
    divisor: int | None,
    counted: bool,
) -> Any:
    """Sums over windows of the padded input, times what torch divides by: a constant of every place.

    How the last windows of ``ceil_mode`` count what lies beyond the border was settled otherwise in ONNX, and
    otherwise again in runtimes.
    """
    rank = len(kernel)
    ends = _ends(x, result, kernel, stride, pad, [1] * rank)
    ones = torch.ones((1, 1, *whole_sizes(x.shape[-rank:])), dtype=torch.float64)
    padding = [each for p, end in reversed(list(zip(pad, ends, strict=True))) for each in (p, end)]
    taken = pool(F.pad(ones, padding), kernel, stride) * math.prod(kernel)  # real elements in a window
    sizes = whole_sizes(result.shape[-rank:])
    part: Any = (..., *(slice(size) for size in sizes))
    taken = taken[part]
    share = pool(ones, kernel, stride, pad, True, counted, divisor)[part]
    factor = torch.where(taken > 0, share / taken.clamp(min=1), 0.0) * math.prod(kernel)
    dims = rank + 2
    quiet = [0] * (dims - rank)
    pads = write.integers([*quiet, *pad, *quiet, *ends])
    wide = write.node("Pad", given, pads, write.scalar(0.0, x.dtype))
    means = write.node("AveragePool", wide, kernel_shape=kernel, strides=stride)
    if ends != _ends(x, result, kernel, stride, [0] * rank, [1] * rank):
        starts, stops = write.integers([0] * rank), write.integers(sizes)
        means = write.node("Slice", means, starts, stops, write.integers(list(range(2, dims))))
    return write.node("Mul", means, factor.to(x.dtype))


converts("avg_pool2d.default")(_averages(2))
converts("avg_pool3d.default")(_averages(3))


@converts("_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default")
def adaptive_average(write: Writer, result: Sized, x: Sized, output_size: Sequence[int]) -> Any:
    """Cell i of m along a side of n is the mean from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉: along each side a product with a matrix
    of means, where the cells are not windows of one size."""
    rank = len(output_size)
    sides = [int(each) for each in x.shape[-rank:] if isinstance(each, int)]
    if all(cells == 1 for cells in output_size):
        axes = write.integers(list(range(-rank, 0)))
        return write.node("ReduceMean", x, axes, keepdims=1)
    if all(side % cells == 0 for side, cells in zip(sides, output_size, strict=True)) and len(x.shape) == rank + 2:
        kernel = [side // cells for side, cells in zip(sides, output_size, strict=True)]
        return write.node("AveragePool", x, kernel_shape=kernel, strides=kernel)
    if rank != 2:
        raise ExportError(write.layer, "adaptive pooling in space whose cells are of different sizes")
    down, across = (_means(side, cells).to(x.dtype) for side, cells in zip(sides, output_size, strict=True))
    return write.node("MatMul", write.node("MatMul", down, x), across.t())


def _means(side: int, cells: int) -> Tensor:
    """(cells, side): row i has 1/length at the places of cell i."""
    matrix = torch.zeros(cells, side, dtype=torch.float64)
    for i, (begin, end) in enumerate(_cells(side, cells)):
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def _cells(side: int, cells: int) -> list[tuple[int, int]]:
    return [(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]


@converts("adaptive_max_pool2d.default")
def adaptive_max(write: Writer, result: Sized, x: Sized, output_size: Sequence[int]) -> Any:
    """The maxima of the cells, each cut out; where they lie is not told."""
    y: Any = x
    for axis, cells in ((-2, output_size[0]), (-1, output_size[1])):
        side = x.shape[axis]
        assert isinstance(side, int)
        parts = []
        for begin, end in _cells(side, cells):
            cut = write.node("Slice", y, write.integers([begin]), write.integers([end]), write.integers([axis]))
            parts.append(write.node("ReduceMax", cut, write.integers([axis]), keepdims=1))
        y = write.node("Concat", *parts, axis=axis)
    return y, None


@converts("max_unpool2d.default")
def max_unpool(write: Writer, result: Sized, x: Sized, indices: Any, output_size: Sequence[int]) -> Any:
    """Every value at its place in a map of zeros; ``indices`` count within a map."""
    area = math.prod(output_size)
    ahead = x.shape[:-2]
    flat = [*ahead, math.prod(int(each) for each in x.shape[-2:] if isinstance(each, int))]
    empty = write.node("Expand", write.scalar(0.0, x.dtype), write.sizes([*ahead, area]))
    shape = write.sizes(flat, free=True)
    values, places = write.node("Reshape", x, shape), write.node("Reshape", indices, shape)
    filled = write.node("ScatterElements", empty, places, values, axis=len(ahead))
    return write.node("Reshape", filled, write.sizes(result.shape, free=True))


@converts("upsample_nearest2d.default", "upsample_bilinear2d.default")
def upsample(write: Writer, result: Sized, x: Sized, size: Sequence[int], *more: Any) -> Any:
    """To ``size``. Torch's last arguments (align_corners of the bilinear one, then factors) tell how places map."""
    factors = more[-2:] if len(more) >= 2 else ()
    for factor, to, side in zip(factors, size, x.shape[-2:], strict=False):
        if factor is not None and (not isinstance(side, int) or abs(factor * side - to) > 1e-6):
            raise ExportError(write.layer, "enlarging by a factor whose result is no whole number of pixels")
    return _resized(write, x, result, "linear" if len(more) % 2 else "nearest", bool(len(more) % 2 and more[0]))


@converts("upsample_nearest2d.vec", "upsample_bilinear2d.vec")
def upsample_vec(write: Writer, result: Sized, x: Sized, size: Any, *more: Any) -> Any:
    factors = more[-1]
    for factor, side, to in zip(factors or (), x.shape[-2:], result.shape[-2:], strict=False):
        if not isinstance(side, int) or factor * side != to:
            raise ExportError(write.layer, "enlarging by a factor whose result is no whole number of pixels")
    return _resized(write, x, result, "linear" if len(more) == 2 else "nearest", len(more) == 2 and bool(more[0]))


def _resized(write: Writer, x: Sized, result: Sized, mode: str, align_corners: bool) -> Any:
    places = "align_corners" if align_corners else "half_pixel" if mode == "linear" else "asymmetric"
    sizes = write.sizes(result.shape)
    nearest = "floor" if mode == "nearest" else None
    return write.node(
        "Resize", x, None, None, sizes, mode=mode, coordinate_transformation_mode=places, nearest_mode=nearest
    )
