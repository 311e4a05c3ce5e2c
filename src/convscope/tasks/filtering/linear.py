"""Sums of shifted pictures: a kernel taken apart where that is cheaper, and applied to one padded tile."""

from __future__ import annotations

import dataclasses

import numpy
from numpy.typing import NDArray

from convscope.kernels import Kernel

Tile = NDArray[numpy.floating]
_EXACT = 1e-13  # of the largest singular value: what is below is rounding


@dataclasses.dataclass(frozen=True)
class Parts:
    """K = Σ column ⊗ row, where that takes fewer multiplications than K's own values, else K itself."""

    kernel: Kernel
    pairs: tuple[tuple[Kernel, Kernel], ...]

    @property
    def reach(self) -> tuple[int, int]:
        return self.kernel.shape[0] // 2, self.kernel.shape[1] // 2


def take_apart(kernel: Kernel) -> Parts:
    """By singular values: rank 1 for box, Gaussian, Sobel, Prewitt, rank 3 for the Laplacian of the Gaussian."""
    left, values, right = numpy.linalg.svd(kernel)
    rank = int((values > _EXACT * values[0]).sum())
    if rank == 1:  # by a row and a column of its own, so that small whole numbers stay such: 1 2 1 beside −1 0 1
        i, j = numpy.unravel_index(numpy.abs(kernel).argmax(), kernel.shape)
        pairs = [(kernel[:, j], kernel[i] / kernel[i, j])]
    else:
        pairs = [(left[:, index] * values[index], right[index]) for index in range(rank)]
    cost = sum(numpy.count_nonzero(column) + numpy.count_nonzero(row) for column, row in pairs)
    return Parts(kernel, tuple(pairs) if pairs and cost < numpy.count_nonzero(kernel) else ())


def correlate(tile: Tile, parts: Parts) -> Tile:
    """The padded tile (h + 2r, w + 2s) → (h, w), in the tile's own precision."""
    (r, s), height, width = parts.reach, *tile.shape
    out = numpy.zeros((height - 2 * r, width - 2 * s), tile.dtype)
    scratch = numpy.empty_like(out)
    if not parts.pairs:
        for (i, j), value in numpy.ndenumerate(parts.kernel):
            if value:
                _add(out, tile[i : i + out.shape[0], j : j + out.shape[1]], value, scratch)
        return out
    middle = numpy.empty((out.shape[0], width), tile.dtype)
    spare = numpy.empty_like(middle)
    for column, row in parts.pairs:
        _along(tile, column, 0, middle, spare)
        if len(parts.pairs) == 1:
            _along(middle, row, 1, out, scratch)
        else:
            out += _along(middle, row, 1, numpy.empty_like(out), scratch)
    return out


def _along(x: Tile, taps: Kernel, axis: int, out: Tile, scratch: Tile) -> Tile:
    """Σ taps(a)·x shifted by a along ``axis``. Equal taps are added up by doubling: 2·log₂ n sums instead of 2n."""
    count = len(taps)
    if count > 4 and (taps == taps[0]).all():
        return numpy.multiply(_running(x, count, axis), x.dtype.type(taps[0]), out=out)
    out[...] = 0
    for index, value in enumerate(taps):
        if value:
            _add(out, _shifted(x, index, out.shape[axis], axis), value, scratch)
    return out


def _running(x: Tile, count: int, axis: int) -> Tile:
    """Sums of ``count`` neighbours, (… n − count + 1 …), from sums of 1, 2, 4, …"""
    length = x.shape[axis] - count + 1
    total: Tile | None = None
    power, size, start = x, 1, 0
    while True:
        if count & size:
            piece = _shifted(power, start, length, axis)
            total = piece.copy() if total is None else numpy.add(total, piece, out=total)
            start += size
        size *= 2
        if size > count:
            assert total is not None
            return total
        span = power.shape[axis] - size // 2
        power = _shifted(power, 0, span, axis) + _shifted(power, size // 2, span, axis)


def _shifted(x: Tile, start: int, length: int, axis: int) -> Tile:
    return x[start : start + length] if axis == 0 else x[:, start : start + length]


def _add(out: Tile, x: Tile, value: float, scratch: Tile) -> None:
    if value == 1:
        numpy.add(out, x, out=out)
    elif value == -1:
        numpy.subtract(out, x, out=out)
    else:
        numpy.multiply(x, out.dtype.type(value), out=scratch)
        numpy.add(out, scratch, out=out)
