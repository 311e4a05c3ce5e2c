"""Occlusion: what covering a patch takes away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from convscope.errors import ArgumentError
from convscope.inspect.attribution.methods.integrated_gradients import baseline_of
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import BATCH, Subject


@method()
def occlusion(
    subject: Subject,
    patch: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """s(x) − s(x with a patch covered), as the mean over the patches that cover a pixel.

    Zeiler, Fergus 2014, section 4.2. The ``patch`` (a seventh of each side unless given) moves by ``stride`` (half a
    patch) over all channels at once and is filled with ``baseline``; a last one is cut off by the edge, so that every
    pixel is covered.
    """
    x = subject.x
    if x.ndim < 2:
        raise ArgumentError("x", tuple(x.shape), "a batch of maps or rows")
    sides = tuple(x.shape[2:]) if x.ndim > 2 else tuple(x.shape[1:])
    size = _sides("patch", patch, [max(1, side // 7) for side in sides])
    step = _sides("stride", stride, [max(1, side // 2) for side in size])
    fill = baseline_of(x, baseline)
    leading = x.ndim - len(sides)
    patches = _patches(sides, size, step)
    total = x.new_zeros(len(x), 1, *sides)
    covered = x.new_zeros(sides)
    for number in range(len(x)):
        for start in range(0, len(patches), BATCH):
            part = patches[start : start + BATCH]
            batch = x[number : number + 1].repeat(len(part), *(1,) * (x.ndim - 1))
            for at, box in enumerate(part):
                area: Any = (*(slice(None),) * (leading - 1), *box)
                batch[at][area] = fill[number][area]
            falls = subject.value[number] - subject.of_one(number).values(batch)
            for fall, box in zip(falls, part, strict=True):
                total[number, 0][box] += fall
                if number == 0:
                    covered[box] += 1
    mean = total / covered
    return mean if x.ndim > 2 else mean[:, 0]


def _patches(sides: Sequence[int], size: Sequence[int], step: Sequence[int]) -> list[tuple[slice, ...]]:
    """Every place of the patch, row by row: as many along a side as it takes to cover it."""
    starts = []
    for side, patch, stride in zip(sides, size, step, strict=True):
        count = max(1, math.ceil((side - patch) / stride) + 1)
        starts.append([slice(k * stride, min(k * stride + patch, side)) for k in range(count)])
    grid: list[tuple[slice, ...]] = [()]
    for along in starts:
        grid = [(*box, each) for box in grid for each in along]
    return grid


def _sides(argument: str, given: int | Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    if given is None:
        return tuple(default)
    found: tuple[Any, ...] = (given,) * len(default) if isinstance(given, int) else tuple(given)
    if len(found) != len(default) or any(not isinstance(side, int) or side < 1 for side in found):
        raise ArgumentError(argument, given, f"an integer ≥ 1, or {len(default)} of them")
    return found
