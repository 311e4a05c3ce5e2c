"""Two recordings of one model, for batches of two sizes, become steps whose sizes say what depends on the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.recording import Recording, Ref, Step


@dataclasses.dataclass(frozen=True)
class Extent:
    """factor · n + more, where n is the number of examples in the batch."""

    factor: int
    more: int = 0


@dataclasses.dataclass(frozen=True)
class Sized:
    """A result, or an input: like ``Ref``, but the shape says what depends on the batch."""

    number: int
    shape: tuple[int | Extent, ...]
    dtype: torch.dtype


@dataclasses.dataclass(frozen=True)
class Filled:
    """A constant of one number everywhere, whose shape depends on the batch."""

    number: float
    shape: tuple[int | Extent, ...]
    dtype: torch.dtype


_FEW, _MORE = 2, 3


BATCHES = (_FEW, _MORE)
"""The sizes of the two recordings' batches."""


def fixed(recording: Recording) -> Recording:
    """The recording with its sizes as they are, for a batch that is always as large."""
    return _both(recording, recording)


def compared(few: Recording, more: Recording) -> Recording:
    """One recording for any batch, of two that were made with batches of ``BATCHES``.

    A size s₂ at batch 2 and s₃ at batch 3 is read as (s₃ − s₂) · n + c. Raises ExportError where the two differ in
    anything else than such sizes: the steps themselves, fractions, or constants.
    """
    if len(few.steps) != len(more.steps) or any(
        one.name != other.name for one, other in zip(few.steps, more.steps, strict=True)
    ):
        raise ExportError("", "what the model does depends on how many examples are in a batch")
    return _both(few, more)


def _both(few: Recording, more: Recording) -> Recording:
    steps = [
        Step(
            one.name,
            _merged(one.args, other.args, one),
            _merged(dict(one.keywords), dict(other.keywords), one),
            _merged(one.results, other.results, one),
            one.layer,
        )
        for one, other in zip(few.steps, more.steps, strict=True)
    ]
    end = Step("the output", (), {}, (), "")
    inputs = _merged(few.inputs, more.inputs, end)
    return Recording(inputs, tuple(steps), _merged(few.outputs, more.outputs, end))


def _merged(one: Any, other: Any, step: Step) -> Any:
    if isinstance(one, Ref) and isinstance(other, Ref) and one.number == other.number and one.dtype == other.dtype:
        return Sized(one.number, _merged(one.shape, other.shape, step), one.dtype)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _merged_constants(one, other, step)
    if isinstance(one, Mapping | list | tuple):
        return _merged_containers(one, other, step)
    if type(one) is type(other) and (one is other or one == other):
        return one
    if type(one) is int and type(other) is int:
        factor = (other - one) // (_MORE - _FEW)
        return Extent(factor, one - factor * _FEW)
    raise _differing(step)


def _merged_containers(one: Any, other: Any, step: Step) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        return {key: _merged(one[key], other[key], step) for key in one}
    if not _sequences(one, other):
        raise _differing(step)
    items = [_merged(a, b, step) for a, b in zip(one, other, strict=True)]
    if hasattr(one, "_fields"):
        return type(one)(*items)
    return items if isinstance(one, list) else tuple(items)


def _merged_constants(one: Tensor, other: Tensor, step: Step) -> Tensor | Filled:
    if one is other or (one.shape == other.shape and torch.equal(one, other)):
        return one
    number = _uniform(one, other) if one.dtype == other.dtype and one.ndim == other.ndim else None
    if number is None:
        raise _differing(step)
    return Filled(number, _merged(tuple(one.shape), tuple(other.shape), step), one.dtype)


def _differing(step: Step) -> ExportError:
    return ExportError(step.layer, f"{step} takes numbers that depend on how many examples are in a batch")


def _uniform(one: Tensor, other: Tensor) -> float | None:
    """The number that both hold everywhere; None where there is none, or there are several."""
    if not one.numel() or not other.numel():
        return None
    number = one.flatten()[0]
    return float(number) if bool((one == number).all()) and bool((other == number).all()) else None


def _sequences(one: Any, other: Any) -> bool:
    kinds = (list, tuple)
    return isinstance(one, kinds) and isinstance(other, kinds) and len(one) == len(other)


def whole_sizes(sizes: Sequence[int | Extent]) -> tuple[int, ...]:
    """The sizes; TypeError, which the writer makes an ExportError of, where one depends on the batch."""
    if not whole(sizes):
        raise TypeError(f"sizes {sizes} depend on the batch")
    return tuple(each for each in sizes if isinstance(each, int))


def whole(sizes: Sequence[int | Extent]) -> bool:
    """Whether none of the sizes depends on the batch."""
    return all(isinstance(each, int) for each in sizes)
