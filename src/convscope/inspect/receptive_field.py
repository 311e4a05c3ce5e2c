"""The receptive field: which box of input pixels a unit sees, at any depth and through any branches.

Along one dimension, unit o of a layer that reads units i ∈ R(o) of the layer before it sees

    lo(o) = min over i ∈ R(o) of lo(i),     hi(o) = max over i ∈ R(o) of hi(i)

and where branches meet, the smaller lo and the larger hi. That is carried from the input forward for every unit, so
borders, padding, a last window hanging over the edge and uneven adaptive windows come out exactly. Beside it runs the
picture without borders: size r' = r + (k − 1)·d·j, jump j' = j·s, first pixel a' = a − p·j.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.calls import Shape, Step, TensorLike, Walk, walk
from convscope.inspect.dependence import Dimension, along, single

_NONE_LOW = np.int64(2**40)  # lo of a unit that sees no pixel at all (padding only)
_NONE_HIGH = np.int64(-1)


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """What the units of one layer see of the input, in pixels.

    ``size`` is the field's extent (height, width) without regard to borders, ``jump`` the distance between the fields
    of neighbouring units and ``start`` the centre of the first unit's field, both None where units are not laid out
    regularly over the picture (after a linear layer every unit sees everything). ``box`` is what the unit at
    ``position`` sees within the picture, as (first, last + 1) for every dimension; empty (0, 0) where that unit sees
    padding only. ``padded_box`` is the same with the padding around the picture counted in, None where ``jump`` is.
    """

    layer: str
    input_shape: Shape
    output_shape: Shape
    size: tuple[int, ...]
    jump: tuple[float, ...] | None
    start: tuple[float, ...] | None
    position: tuple[int, ...]
    box: tuple[tuple[int, int], ...]
    padded_box: tuple[tuple[int, int], ...] | None

    @property
    def slices(self) -> tuple[slice, ...]:
        """``x[(..., *field.slices)]`` is the part of the input that the unit sees."""
        return tuple(slice(first, last) for first, last in self.box)

    @property
    def clipped(self) -> bool:
        """Whether part of this unit's field is padding."""
        return self.padded_box is not None and self.padded_box != self.box

    def __str__(self) -> str:
        text = f"{self.layer}: sees {_times(self.size)} pixels"
        if self.jump is not None:
            text += f", a step of {_times(self.jump)} between neighbours"
        corners = " × ".join(f"{first}…{last - 1}" if last > first else "padding only" for first, last in self.box)
        return text + f"; unit {self.position} sees {corners}"


@dataclasses.dataclass(frozen=True)
class _Axis:
    """How one node lies over one input dimension: ``axis`` runs along with it (None: every unit sees the same, one
    entry). ``low``, ``high``: first and last pixel by unit. ``affine``: (first pixel of unit 0, reach, jump)."""

    axis: int | None
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    affine: tuple[float, float, float] | None


_Reach = tuple[_Axis, ...]


class ReceptiveFields:
    """The receptive fields of all layers of a model for one input shape; ``fields[layer, position]`` asks for one.

    Of a model of several inputs, ``input_shape`` is a sequence of shapes and ``of`` says in which of the inputs,
    counted from 0, the fields lie. Raises ArgumentError where that is not said.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[Any] | None = None, of: int | None = None) -> None:
        self.walk: Walk = walk(model, input_shape)
        inputs = len(self.walk.input_shapes)
        if inputs > 1 if of is None else not 0 <= of < inputs:
            raise ArgumentError("of", of, f"the number of the input, 0 … {inputs - 1}, in which the fields lie")
        self._cache: dict[tuple[Any, ...], Dimension] = {}
        self._input = of or 0
        sizes = self.walk.input_shapes[self._input][1:]
        whole = tuple(_Axis(2 + item, np.arange(n), np.arange(n), (0, 1, 1)) for item, n in enumerate(sizes))
        self._reach: dict[str, _Reach] = {self.walk.input_names[self._input]: whole}
        for step in single(self.walk):
            reached = [self._through(step, source) for source in _distinct(step.inputs) if source.source in self._reach]
            if reached:
                self._reach[step.name] = tuple(_join(axes) for axes in zip(*reached, strict=True))

    def layers(self) -> list[str]:
        """Names of all steps whose units see the input, in forward order."""
        return [step.name for step in self.walk if step.name in self._reach and step.output_shape is not None]

    def __getitem__(self, key: str | tuple[str, Sequence[int] | None]) -> ReceptiveField:
        layer, position = (key, None) if isinstance(key, str) else key
        if layer not in self.layers():
            raise UnknownNameError("layer", layer, self.layers())
        step: Step = self.walk[layer]
        assert step.output_shape is not None
        reach = self._reach[layer]
        place = self._position(step.output_shape, reach, position)
        at = [0 if axis.axis is None else place[axis.axis] for axis in reach]
        boxes = [_box(axis.low[i], axis.high[i]) for axis, i in zip(reach, at, strict=True)]
        affine = [axis.affine for axis in reach]
        regular = [item for item in affine if item is not None]
        if len(regular) < len(affine):
            regular = []
        return ReceptiveField(
            layer=layer,
            input_shape=self.walk.input_shapes[self._input],
            output_shape=step.output_shape[1:],
            size=tuple(_extent(axis) for axis in reach),
            jump=tuple(_tidy(jump) for _, _, jump in regular) if regular else None,
            start=tuple(first + (size - 1) / 2 for first, size, _ in regular) if regular else None,
            position=tuple(place[1:]) if not self._spatial(step.output_shape, reach) else tuple(place[2:]),
            box=tuple(boxes),
            padded_box=tuple(
                (int(np.floor(first + jump * i)), int(np.floor(first + jump * i)) + int(size))
                for (first, size, jump), i in zip(regular, at, strict=True)
            )
            if regular
            else None,
        )

    def _spatial(self, shape: Shape, reach: _Reach) -> bool:
        """Whether the units lie as (batch, maps, places…), a place for every input dimension."""
        return len(shape) == 2 + len(reach) and all(a.axis in (None, 2 + i) for i, a in enumerate(reach))

    def _position(self, shape: Shape, reach: _Reach, position: Sequence[int] | None) -> list[int]:
        """The unit's place in the output tensor; by default the middle one."""
        first = 2 if self._spatial(shape, reach) else 1
        sizes = shape[first:]
        if position is None:
            return [0] * first + [size // 2 for size in sizes]
        given = tuple(position)
        if len(given) != len(sizes) or any(not 0 <= at < size for at, size in zip(given, sizes, strict=False)):
            limits = ", ".join(f"0…{size - 1}" for size in sizes)
            raise ArgumentError("position", position, f"{len(sizes)} indices of a unit in the layer's output: {limits}")
        return [0] * first + list(given)

    def _through(self, step: Step, source: TensorLike) -> _Reach:
        return tuple(self._along(step, source, axis) for axis in self._reach[source.source])

    def _along(self, step: Step, source: TensorLike, before: _Axis) -> _Axis:
        if before.axis is None:
            return before
        key = (step.name, source, before.axis)
        if key not in self._cache:
            self._cache[key] = along(step, source, before.axis)
        dimension = self._cache[key]
        valid = dimension.reads >= 0
        low = np.where(valid, before.low[dimension.reads], _NONE_LOW).min(axis=1)
        high = np.where(valid, before.high[dimension.reads], _NONE_HIGH).max(axis=1)
        affine = None
        if before.affine is not None and dimension.progression is not None:
            first, size, jump = before.affine
            progression = dimension.progression
            affine = (
                first + progression.offset * jump,
                size + (progression.reach - 1) * jump,
                jump * progression.stride,
            )
        return _Axis(dimension.axis, low, high, affine)


def receptive_field(
    model: nn.Module,
    layer: str,
    input_shape: Sequence[Any] | None = None,
    position: Sequence[int] | None = None,
    of: int | None = None,
) -> ReceptiveField:
    """The receptive field of the unit at ``position`` (the middle one by default) of ``layer``.

    ``layer`` is a module's path, or the graph's name of a function call; ``input_shape`` is (channels, height, width),
    by default the model's own; ``position`` is (row, column) in the layer's output. The same places are seen by all
    maps of the layer together, so no map is asked for. Of a model of several inputs ``input_shape`` is a sequence of
    shapes, and ``of`` says in which of the inputs, counted from 0, the field lies.

    Raises UnknownNameError for a layer the model does not call, ArgumentError for an impossible shape, position or
    input.
    """
    return ReceptiveFields(model, input_shape, of)[layer, position]


def _join(axes: Sequence[_Axis]) -> _Axis:
    """Where branches meet: the smaller first and the larger last pixel, unit by unit."""
    if len(axes) == 1:
        return axes[0]
    laid_out = {axis.axis for axis in axes if axis.axis is not None}
    lengths = {len(axis.low) for axis in axes if axis.axis is not None}
    if len(laid_out) > 1 or len(lengths) > 1:
        low, high = min(axis.low.min() for axis in axes), max(axis.high.max() for axis in axes)
        return _Axis(None, np.array([low]), np.array([high]), None)
    low_all = np.minimum.reduce(np.broadcast_arrays(*[axis.low for axis in axes]))
    high_all = np.maximum.reduce(np.broadcast_arrays(*[axis.high for axis in axes]))
    affine = None
    known = [axis.affine for axis in axes if axis.affine is not None]
    if len(known) == len(axes) and len({jump for _, _, jump in known}) == 1:
        first = min(item[0] for item in known)
        last = max(item[0] + item[1] for item in known)
        affine = (first, last - first, known[0][2])
    return _Axis(next(iter(laid_out), None), low_all, high_all, affine)


def _distinct(sources: Sequence[TensorLike]) -> list[TensorLike]:
    return list(dict.fromkeys(sources))


def _box(low: np.int64, high: np.int64) -> tuple[int, int]:
    return (int(low), int(high) + 1) if high >= low else (0, 0)


def _extent(axis: _Axis) -> int:
    if axis.affine is not None:
        return int(np.ceil(axis.affine[1]))
    seen = axis.high >= axis.low
    return int((axis.high - axis.low + 1)[seen].max()) if seen.any() else 0


def _tidy(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
