"""Sizes of tensors as numbers that know where they come from.

While a call is recorded, ``x.shape`` and ``x.size(0)`` hold such numbers. They are ints in every respect, but what is
worked out from them (``c // groups``) is recorded too, so that the graph holds the way from the input's size to the
number instead of the number itself. What a size is compared with is recorded as well, by ``expect``.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from convscope.errors import ConvscopeError

if TYPE_CHECKING:
    from convscope.graph.recorder import Recorder

_ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class SizesChangedError(ConvscopeError):
    """A graph met sizes with which the model would have gone another way than when it was captured."""


class _Source:
    """How a size came about, and the node that works it out, made when it is first needed."""

    def __init__(self, recorder: Recorder, make: Callable[[], fx.Node]) -> None:
        self.recorder = weakref.ref(recorder)
        self._make = make
        self._node: fx.Node | None = None

    def node(self) -> fx.Node:
        if self._node is None or self._node._erased:
            self._node = self._make()
        return self._node


class Size(int):
    """An int with a ``source``."""

    source: _Source

    def __neg__(self) -> int:
        found: int = _work_out(operator.neg, self)
        return found

    def __bool__(self) -> bool:
        return bool(_compare("ne", self, 0))

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __reduce__(self) -> Any:  # copies and pickles are plain numbers
        return int, (int.__int__(self),)

    def __copy__(self) -> int:
        return int.__int__(self)

    def __deepcopy__(self, memo: Any) -> int:
        return int.__int__(self)

    def __eq__(self, other: object) -> bool:
        return _compare("eq", self, other)


class Fraction(float):
    """A float with a ``source``: a quotient of sizes."""

    source: _Source

    def __hash__(self) -> int:
        return float.__hash__(self)

    def __reduce__(self) -> Any:
        return float, (float.__float__(self),)

    def __copy__(self) -> float:
        return float.__float__(self)

    def __deepcopy__(self, memo: Any) -> float:
        return float.__float__(self)

    def __eq__(self, other: object) -> bool:
        return _compare("eq", self, other)


def make_size(recorder: Recorder, value: int, make: Callable[[], fx.Node]) -> Size:
    """``value`` as a size that ``make()``'s node works out."""
    found = Size(value)
    found.source = _Source(recorder, make)
    return found


def source_of(value: Any, recorder: Recorder) -> _Source | None:
    """Where ``value`` came from in this recording; None for plain numbers and those of another recording."""
    if not isinstance(value, Size | Fraction):
        return None
    source = getattr(value, "source", None)
    return source if source is not None and source.recorder() is recorder else None


def plain(value: Any) -> Any:
    """The number itself."""
    if isinstance(value, Size):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, Fraction) else value


def expect(left: Any, comparison: str, right: Any, outcome: bool) -> None:
    """In a graph: the model compared these when it was captured, with this outcome, and went on accordingly.

    Raises SizesChangedError where the outcome is another one.
    """
    if bool(getattr(operator, comparison)(left, right)) is not outcome:
        sign = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}[comparison]
        held = "held" if outcome else "did not hold"
        raise SizesChangedError(f"the model goes another way for these sizes: {left} {sign} {right} {held} before")


def _recorder(*values: Any) -> Recorder | None:
    """The recording under way that a number among ``values`` belongs to."""
    for value in values:
        source = getattr(value, "source", None) if isinstance(value, Size | Fraction) else None
        recorder: Recorder | None = None if source is None else source.recorder()
        if recorder is not None and recorder.listening:
            return recorder
    return None


def _work_out(function: Callable[..., Any], *operands: Any) -> Any:
    result = function(*map(plain, operands))
    recorder = _recorder(*operands)
    if recorder is None or isinstance(result, bool) or type(result) not in (int, float):
        return result
    found: Any = Size(result) if type(result) is int else Fraction(result)
    found.source = _Source(recorder, lambda: recorder.work_out(function, operands))
    return found


def _compare(comparison: str, left: Any, right: Any) -> bool:
    outcome = bool(getattr(operator, comparison)(plain(left), plain(right)))
    recorder = _recorder(left, right)
    if recorder is not None and isinstance(right, int | float):
        recorder.compared(left, comparison, right, outcome)
    return outcome


def _equip(kind: type, base: type) -> None:
    """Give ``kind`` the operators of its base, recorded."""

    def arithmetic(function: Callable[..., Any], swapped: bool) -> Callable[[Any, Any], Any]:
        def work_out(self: Any, other: Any) -> Any:
            if not isinstance(other, int | float):
                return NotImplemented
            return _work_out(function, other, self) if swapped else _work_out(function, self, other)

        return work_out

    def comparing(comparison: str) -> Callable[[Any, Any], Any]:
        def compare(self: Any, other: Any) -> Any:
            return _compare(comparison, self, other) if isinstance(other, int | float) else NotImplemented

        return compare

    for name in _ARITHMETIC:
        setattr(kind, f"__{name}__", arithmetic(getattr(operator, name), swapped=False))
        setattr(kind, f"__r{name}__", arithmetic(getattr(operator, name), swapped=True))
    for name in _COMPARISONS:
        if base is not int or name != "eq":
            setattr(kind, f"__{name}__", comparing(name))


_equip(Size, int)
_equip(Fraction, float)
