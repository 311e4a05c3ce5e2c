"""Recordings of one model, for batches of two sizes and sentences of three lengths, become steps whose sizes say what
depends on the batch and on the length."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.recording import Recording, Ref, Step


@dataclasses.dataclass(frozen=True)
class Extent:
    """factor · n + steps · t + more, where n is the number of examples in the batch and t the length of each."""

    factor: int
    more: int = 0
    steps: int = 0


Along = Callable[[Any, Any], Extent | None]  # what two sizes are as one; None where they cannot be


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
LENGTHS = (0, 1, 2)
"""How much longer than the first the examples of three recordings are."""


def fixed(recording: Recording) -> Recording:
    """The recording with its sizes as they are, for a batch that is always as large."""
    return _both(recording, recording, _by_batch)


def compared(few: Recording, more: Recording) -> Recording:
    """One recording for any batch, of two that were made with batches of ``BATCHES``.

    A size s₂ at batch 2 and s₃ at batch 3 is read as (s₃ − s₂) · n + c. Raises ExportError where the two differ in
    anything else than such sizes: the steps themselves, fractions, or constants.
    """
    _check_alike(few, more, "how many examples are in a batch")
    return _both(few, more, _by_batch)


def of_any_length(recordings: Sequence[Recording], length: int) -> Recording:
    """One recording for examples of any length, of three that are each for any batch: of ``length`` and ``LENGTHS``
    more. ExportError where they differ in anything else than sizes that are straight lines in the length."""
    first, *others = recordings
    found: list[tuple[Recording, list[Extent]]] = []
    for longer, other in zip(LENGTHS[1:], others, strict=True):
        _check_alike(first, other, "how long an example is")
        lines: list[Extent] = []
        found.append((_both(first, other, _by_length(length, longer, lines)), lines))
    if any(lines != found[0][1] for _, lines in found):
        raise ExportError("", "sizes are no straight lines in how long an example is")
    return found[0][0]


def _check_alike(one: Recording, other: Recording, what: str) -> None:
    if len(one.steps) != len(other.steps) or any(a.name != b.name for a, b in zip(one.steps, other.steps, strict=True)):
        raise ExportError("", f"what the model does depends on {what}")


def _by_batch(one: Any, other: Any) -> Extent | None:
    if type(one) is not int or type(other) is not int:
        return None
    factor = (other - one) // (_MORE - _FEW)
    return Extent(factor, one - factor * _FEW)


def _by_length(length: int, longer: int, found: list[Extent]) -> Along:
    def along(one: Any, other: Any) -> Extent | None:
        if not all(type(each) is int or isinstance(each, Extent) for each in (one, other)):
            return None
        a, b = (each if isinstance(each, Extent) else Extent(0, each) for each in (one, other))
        if a.factor != b.factor:  # a product of the batch and the length
            return None
        steps = (b.more - a.more) // longer
        found.append(Extent(a.factor, a.more - steps * length, steps))
        return found[-1]

    return along


def _both(few: Recording, more: Recording, along: Along) -> Recording:
    steps = [
        Step(
            one.name,
            _merged(one.args, other.args, one, along),
            _merged(dict(one.keywords), dict(other.keywords), one, along),
            _merged(one.results, other.results, one, along),
            one.layer,
        )
        for one, other in zip(few.steps, more.steps, strict=True)
    ]
    end = Step("the output", (), {}, (), "")
    inputs = _merged(few.inputs, more.inputs, end, along)
    return Recording(inputs, tuple(steps), _merged(few.outputs, more.outputs, end, along))


def _merged(one: Any, other: Any, step: Step, along: Along) -> Any:
    refs = isinstance(one, Ref | Sized) and isinstance(other, Ref | Sized)
    if refs and one.number == other.number and one.dtype == other.dtype:
        return Sized(one.number, _merged(one.shape, other.shape, step, along), one.dtype)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _merged_constants(one, other, step, along)
    if isinstance(one, Filled) and isinstance(other, Filled) and (one.number, one.dtype) == (other.number, other.dtype):
        return Filled(one.number, _merged(one.shape, other.shape, step, along), one.dtype)
    if isinstance(one, Mapping | list | tuple):
        return _merged_containers(one, other, step, along)
    if type(one) is type(other) and (one is other or one == other):
        return one
    extent = along(one, other)
    if extent is None:
        raise _differing(step)
    return extent


def _merged_containers(one: Any, other: Any, step: Step, along: Along) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        return {key: _merged(one[key], other[key], step, along) for key in one}
    if not _sequences(one, other):
        raise _differing(step)
    items = [_merged(a, b, step, along) for a, b in zip(one, other, strict=True)]
    if hasattr(one, "_fields"):
        return type(one)(*items)
    return items if isinstance(one, list) else tuple(items)


def _merged_constants(one: Tensor, other: Tensor, step: Step, along: Along) -> Tensor | Filled:
    if one is other or (one.shape == other.shape and torch.equal(one, other)):
        return one
    number = _uniform(one, other) if one.dtype == other.dtype and one.ndim == other.ndim else None
    if number is None:
        raise _differing(step)
    return Filled(number, _merged(tuple(one.shape), tuple(other.shape), step, along), one.dtype)


def _differing(step: Step) -> ExportError:
    return ExportError(
        step.layer, f"{step} takes numbers that depend on how many examples are in a batch, or on how long they are"
    )


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
    """The sizes; TypeError, which the writer makes an ExportError of, where one depends on batch or length."""
    if not whole(sizes):
        raise TypeError(f"sizes {sizes} depend on the batch, or on the length")
    return tuple(each for each in sizes if isinstance(each, int))


def whole(sizes: Sequence[int | Extent]) -> bool:
    """Whether none of the sizes depends on the batch."""
    return all(isinstance(each, int) for each in sizes)
