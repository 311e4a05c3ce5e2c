"""A picture's channel in strips: each with as much of its surroundings as the kernel reaches, several at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
from numpy.typing import NDArray

from convscope.errors import ArgumentError, UnknownNameError

PADDINGS = ("reflect", "symmetric", "replicate", "circular", "zeros", "constant")
_STRIP = 1 << 16  # numbers of a strip: some 256 KiB, so that it stays in a core's cache from tap to tap

Plane = NDArray[Any]


def check_padding(padding: object, shape: tuple[int, int], size: tuple[int, int]) -> None:
    """UnknownNameError for a padding that is not there, ArgumentError for a kernel larger than the picture."""
    if padding not in PADDINGS:
        raise UnknownNameError("padding", padding, PADDINGS)
    if size[0] > shape[0] or size[1] > shape[1]:
        sides = f"{size[0]}×{size[1]}"
        raise ArgumentError("kernel", sides, f"a kernel no larger than the picture, which is {shape[0]}×{shape[1]}")


def in_strips(
    source: Plane,
    out: Plane,
    reach: tuple[int, int],
    padding: str,
    fill: float,
    dtype: type[numpy.generic],
    work: Callable[[Plane], Plane],
    threads: int | None = None,
) -> None:
    """``out[strip] = work(padded strip)`` over all strips; ``source`` and ``out`` are (h, w), also memory-mapped.

    Every strip is filtered from the same numbers as in the whole picture, so the result does not depend on the strips.
    """
    height, width = source.shape
    r, _ = reach
    rows = max(_STRIP // width, 2 * r, 8)  # with 4r a Gaussian of 31×31 was three times slower: out of the cache

    def strip(top: int) -> None:
        bottom = min(top + rows, height)
        out[top:bottom] = work(padded(source, top, bottom, reach, padding, fill, dtype))

    starts = range(0, height, rows)
    count = threads or len(os.sched_getaffinity(0))
    if count == 1 or len(starts) == 1:
        for top in starts:
            strip(top)
        return
    with ThreadPoolExecutor(count) as pool:
        for _done in pool.map(strip, starts):
            pass


def padded(
    source: Plane, top: int, bottom: int, reach: tuple[int, int], padding: str, fill: float, dtype: type[numpy.generic]
) -> Plane:
    """Rows ``top`` to ``bottom`` with r rows above and below and s columns on either side: (h + 2r, w + 2s)."""
    (r, s), (height, width) = reach, source.shape
    tile = numpy.empty((bottom - top + 2 * r, width + 2 * s), dtype)
    inside = slice(max(top - r, 0), min(bottom + r, height))
    above, below = inside.start - (top - r), bottom + r - inside.stop
    tile[above : len(tile) - below, s : s + width] = source[inside]
    for place in [*range(above), *range(len(tile) - below, len(tile))]:
        row = outside(top - r + place, height, padding)
        tile[place, s : s + width] = fill if row is None else source[row]
    for column in range(s):
        for place in (column, width + s + column):
            other = outside(place - s, width, padding)
            tile[:, place] = fill if other is None else tile[:, s + other]
    return tile


def outside(place: int, length: int, padding: str) -> int | None:
    """Which place stands for one before 0 or behind the end; None for a constant."""
    if padding in ("zeros", "constant"):
        return None
    if padding == "replicate":
        return min(max(place, 0), length - 1)
    if padding == "circular":
        return place % length
    if padding == "symmetric":  # … b a | a b c | c b …
        folded = place % (2 * length)
        return min(folded, 2 * length - 1 - folded)
    if length == 1:
        return 0
    folded = place % (2 * length - 2)  # reflect: … c b | a b c | b a …
    return min(folded, 2 * length - 2 - folded)
