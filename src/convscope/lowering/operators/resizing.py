"""Padding, resizing, and poolings by tables: each side's positions are weighted sums of the input's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import Builder, lowers_function, lowers_module
from convscope.lowering.operators import combine
from convscope.lowering.operators.views import reshaped
from convscope.lowering.plan import Attribute
from convscope.lowering.values import Value

Taps = tuple[list[list[int]], list[float]]  # of each position its sources, and the weights of all of them in turn


def taps_of(size: int, resize: Callable[[torch.Tensor], torch.Tensor]) -> Taps:
    """What torch makes of one side of ``size``: ``resize`` is linear, takes (1, k, size) and gives (1, k, any).

    Applied to the unit vectors it shows its weights, so that rounding and edges are torch's own.
    """
    weights = resize(torch.eye(size)[None])[0].T  # (outputs, size)
    sources = [row.nonzero().flatten().tolist() for row in weights]
    return sources, [float(weights[i, j]) for i, row in enumerate(sources) for j in row]


def untouched(size: int) -> Taps:
    return [[position] for position in range(size)], [1.0] * size


def resample(b: Builder, x: Value, rows: Taps, columns: Taps) -> Value:
    x = b.maps(x)
    attributes: dict[str, Attribute] = {}
    for name, (sources, weights) in (("row", rows), ("column", columns)):
        attributes[f"{name}_sources"] = sources
        if any(each != 1 for each in weights):
            attributes[f"{name}_weights"] = weights
    return b.record("resample", x, (x.shape[0], len(rows[0]), len(columns[0])), attributes)


def along(b: Builder, x: Value, axis: int, taps: Taps) -> Value:
    """One side of any tensor resampled."""
    sizes = x.sizes
    if axis == len(sizes) - 1 and len(sizes) == 3:
        return resample(b, x, untouched(sizes[1]), taps)
    before, after = 1, 1
    for place, size in enumerate(sizes):
        before *= size if place < axis else 1
        after *= size if place > axis else 1
    cut = resample(b, reshaped(b, x, (before, sizes[axis], after)), taps, untouched(after))
    return reshaped(b, cut, (*sizes[:axis], len(taps[0]), *sizes[axis + 1 :]))


@lowers_module(nn.ZeroPad2d, nn.ConstantPad2d, nn.ConstantPad1d)
def _(b: Builder, m: nn.ConstantPad2d, x: Any) -> Value:
    return pad(b, x, m.padding, "constant", m.value)


@lowers_module(nn.ReflectionPad2d, nn.ReflectionPad1d)
def _(b: Builder, m: nn.ReflectionPad2d, x: Any) -> Value:
    return pad(b, x, m.padding, "reflect")


@lowers_module(nn.ReplicationPad2d, nn.ReplicationPad1d)
def _(b: Builder, m: nn.ReplicationPad2d, x: Any) -> Value:
    return pad(b, x, m.padding, "replicate")


@lowers_module(nn.CircularPad2d)
def _(b: Builder, m: nn.CircularPad2d, x: Any) -> Value:
    return pad(b, x, m.padding, "circular")


@lowers_function(F.pad, torch._C._nn.pad)
def pad(b: Builder, input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    x = b.tensor(input)
    pads = [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(pad) // 2)]  # from the last side on
    if len(pads) > len(x.sizes) and any(each != (0, 0) for each in pads[len(x.sizes) :]):
        b.refuse(f"pads {b.shown(x)} by {tuple(pad)}, also along the batch")
    filled = 0.0 if value is None else float(value)
    moved, taps = x, {}
    for number, sides in enumerate(pads):
        if sides != (0, 0):
            axis = len(x.sizes) - 1 - number
            taps[axis] = _padded(b, x.sizes[axis], sides, mode)
    last = len(x.sizes) - 1
    if len(x.sizes) == 3 and taps and min(taps) >= last - 1:
        moved = resample(b, moved, *(taps.get(axis) or untouched(x.sizes[axis]) for axis in (1, 2)))
    else:
        for axis, each in taps.items():
            moved = along(b, moved, axis, each)
    if not filled or mode != "constant":
        return moved
    # Added to zeros: x − value, padded with zeros, + value would lose x beside a large one, and -inf makes it NaN.
    border = F.pad(torch.zeros(x.sizes), list(pad)[: 2 * len(x.sizes)], value=filled)
    return combine.pair(b, "add", moved, b.held(border, tuple(border.shape)))


def _padded(b: Builder, size: int, sides: tuple[int, int], mode: str) -> Taps:
    if mode not in ("constant", "reflect", "replicate", "circular"):
        b.refuse(f"pads by mode {mode!r}")
    if size + sum(sides) < 1:
        b.refuse(f"pads a side of {size} by {sides}, which leaves nothing")
    try:
        return taps_of(size, lambda basis: F.pad(basis, sides, mode=mode))
    except RuntimeError as problem:
        return b.refuse(str(problem).split("\n")[0])


@lowers_module(nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d)
def _(b: Builder, m: nn.Upsample, x: Any) -> Value:
    return interpolate(b, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor)


@lowers_function(F.interpolate, F.upsample)
def interpolate(
    b: Builder,
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    x = b.tensor(input)
    if len(x.sizes) not in (2, 3):
        b.refuse(f"resizes {b.shown(x)}, the engine resizes lines and maps only")
    sides = len(x.sizes) - 1
    target, factors = (_each_side(b, each, sides) for each in (size, scale_factor))
    common: dict[str, Any] = {"recompute_scale_factor": recompute_scale_factor, "antialias": antialias}
    if mode not in ("nearest", "nearest-exact", "area"):
        common["align_corners"] = align_corners
    found: list[Taps] = []
    for axis in range(sides):
        extent: dict[str, Any] = {"size": None if target is None else (target[axis], 2)}
        extent["scale_factor"] = None if factors is None else (factors[axis], 1.0)

        def resize(basis: torch.Tensor, extent: dict[str, Any] = extent) -> torch.Tensor:
            name = {"linear": "bilinear"}.get(mode, mode)
            # two columns, for torch resamples (1, k, n, 1) by mistake where antialias is on
            maps = basis[..., None].expand(-1, -1, -1, 2).contiguous()
            return F.interpolate(maps, mode=name, **extent, **common)[..., 0]

        try:
            found.append(taps_of(x.sizes[1 + axis], resize))
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as problem:
            b.refuse(str(problem).split("\n")[0])
    if sides == 1:
        return along(b, x, 1, found[0])
    return resample(b, x, *found)


def _each_side(b: Builder, given: Any, sides: int) -> list[Any] | None:
    if given is None:
        return None
    found = list(given) if isinstance(given, tuple | list | torch.Size) else [given] * sides
    if len(found) != sides or not all(isinstance(each, int | float) for each in found):
        b.refuse(f"resizes to {given}, which the engine cannot work out")
    return found


def adaptive_mean(b: Builder, x: Value, wanted: tuple[int, int]) -> Value:
    """Windows of several sizes, as torch cuts them: from ⌊i·h/H⌋ to ⌈(i + 1)·h/H⌉ − 1."""
    rows, columns = (
        taps_of(size, functools.partial(F.adaptive_avg_pool1d, output_size=count))
        for size, count in zip(x.shape[1:], wanted, strict=True)
    )
    return resample(b, x, rows, columns)


def max_windows(b: Builder, x: Value, rows: list[list[int]], columns: list[list[int]]) -> Value:
    """The maximum of each window, which are rows × columns of the maps."""
    attributes: dict[str, Attribute] = {"row_sources": rows, "column_sources": columns}
    return b.record("max_windows", x, (x.shape[0], len(rows), len(columns)), attributes)
