"""The median of a square by comparisons alone: sorted columns, merged side by side (Batcher 1968)."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy
from numpy.typing import NDArray

Plane = NDArray[Any]


def median(tile: Plane, size: int) -> Plane:
    """The padded tile (h + size − 1, w + size − 1) → (h, w), of the same type.

    Lists of 2, 4, 8 … sorted neighbours are made once for every place, down the columns and then along the rows, and
    windows are put together from them; the last merge gives its middle element only.
    """
    column = _windows([tile], size, 0)
    lists = _pieces([column], size)
    first, *others = lists
    if not others:
        return column[size // 2]
    rest = reduce(_merge, others)
    return _smallest(first, rest, size * size // 2 + 1)


def _windows(planes: list[Plane], size: int, axis: int) -> list[Plane]:
    """Sorted lists of ``size`` neighbours along the rows' axis."""
    pieces = _pieces([planes], size, axis)
    return reduce(_merge, pieces)


def _pieces(levels: list[list[Plane]], size: int, axis: int = 1) -> list[list[Plane]]:
    """Sorted lists that together hold ``size`` neighbours: of 1, 2, 4 … of them, each at its place, equally large."""
    (power,) = levels
    whole = power[0].shape[axis]
    length, found, width, start = whole - size + 1, [], 1, 0
    while True:
        if size & width:
            found.append([_cut(plane, start, length, axis) for plane in power])
            start += width
        width *= 2
        if width > size:
            return found[::-1]
        span = power[0].shape[axis] - width // 2
        power = _merge(
            [_cut(plane, 0, span, axis) for plane in power], [_cut(plane, width // 2, span, axis) for plane in power]
        )


def _cut(plane: Plane, start: int, length: int, axis: int) -> Plane:
    return plane[start : start + length] if axis == 0 else plane[:, start : start + length]


def _merge(a: list[Plane], b: list[Plane]) -> list[Plane]:
    """Two sorted lists → one: odd-even merging (Knuth, The Art of Computer Programming 3, section 5.3.4)."""
    if not a or not b:
        return a or b
    if len(a) == len(b) == 1:
        return [numpy.minimum(a[0], b[0]), numpy.maximum(a[0], b[0])]
    odd, even = _merge(a[::2], b[::2]), _merge(a[1::2], b[1::2])
    merged = [odd[0]]
    for place in range(max(len(odd) - 1, len(even))):
        if place < len(even) and place + 1 < len(odd):
            merged += [numpy.minimum(even[place], odd[place + 1]), numpy.maximum(even[place], odd[place + 1])]
        else:
            merged.append(even[place] if place < len(even) else odd[place + 1])
    return merged


def _smallest(a: list[Plane], b: list[Plane], k: int) -> Plane:
    """The k-th smallest (from 1) of two sorted lists: min over i + j = k of max(aᵢ, bⱼ)."""
    found: Plane | None = None
    for i in range(max(0, k - len(b)), min(k, len(a)) + 1):
        j = k - i
        both = b[j - 1] if i == 0 else a[i - 1] if j == 0 else numpy.maximum(a[i - 1], b[j - 1])
        found = both if found is None else numpy.minimum(found, both)
    assert found is not None
    return found
