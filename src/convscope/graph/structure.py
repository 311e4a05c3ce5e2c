"""Nested inputs, arguments and outputs: tuples, lists, dicts, slices, named tuples, dataclasses, walked and rebuilt."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Size, Tensor


def transform(value: Any, change: Callable[[Any], Any], whole: Callable[[Any], Any] | None = None) -> Any:
    """``value`` with ``change(leaf)`` in the place of every leaf; the nest keeps its types.

    A leaf is whatever is not a tuple, list, dict, slice, named tuple or dataclass. Where nothing changes, the nest
    itself comes back. A mapping or sequence of a class of its own is copied by that class's constructor. ``whole``,
    where given, is asked for every tuple and may put something in its place; None: it is looked into.
    """
    if isinstance(value, Tensor) or value is None:
        return change(value)
    if isinstance(value, tuple) and whole is not None and (found := whole(value)) is not None:
        return found
    if isinstance(value, tuple | list):
        return sequence(value, [transform(item, change, whole) for item in value])
    if is_record(value):
        return _record(value, change, whole)
    if isinstance(value, dict):
        pairs = {key: transform(item, change, whole) for key, item in value.items()}
        same = all(new is value[key] for key, new in pairs.items())
        return value if same else pairs if type(value) is dict else type(value)(pairs)
    if isinstance(value, slice):
        parts = [transform(item, change, whole) for item in (value.start, value.stop, value.step)]
        return slice(*parts)
    return change(value)


def sequence(value: Any, items: list[Any]) -> Any:
    """A tuple or list like ``value`` of ``items``."""
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if hasattr(value, "_fields"):
        return type(value)(*items)
    if isinstance(value, list):
        return type(value)(items)
    return tuple(items) if type(value) in (tuple, Size) else type(value)(items)


def _record(value: Any, change: Callable[[Any], Any], whole: Callable[[Any], Any] | None) -> Any:
    named = {field.name: transform(getattr(value, field.name), change, whole) for field in dataclasses.fields(value)}
    same = all(new is getattr(value, name) for name, new in named.items())
    return value if same else type(value)(**named)


class Field(str):
    """The name of a dataclass's field, as a step of a path."""


def leaves(value: Any) -> list[Any]:
    """All leaves, from first to last."""
    return [leaf for _, leaf in walk(value)]


def tensors(value: Any) -> list[Tensor]:
    """All tensors, from first to last."""
    return [leaf for _, leaf in walk(value) if isinstance(leaf, Tensor)]


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, leaf) for every leaf: ``path`` are the indices, keys and (of dataclasses) names that lead to it."""
    if isinstance(value, Tensor) or value is None:
        yield path, value
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))
    elif is_record(value):
        for field in dataclasses.fields(value):
            yield from walk(getattr(value, field.name), (*path, Field(field.name)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, slice):
        for name in ("start", "stop", "step"):
            yield from walk(getattr(value, name), (*path, Field(name)))
    else:
        yield path, value


def is_record(value: Any) -> bool:
    """Whether it is an object of a dataclass that its constructor, given its fields, makes anew just as it is.

    Where the constructor does something of its own (``__post_init__``, ``__init__``), it is asked to: one that doubles
    a field, wants other arguments or fails would give another object in the place of a copy.
    """
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        return False
    if not all(field.init for field in dataclasses.fields(value)):
        return False
    return only_puts_together(type(value)) or _made_anew(value)


def only_puts_together(kind: type) -> bool:
    """Whether the constructor of the dataclass ``kind`` is the one that dataclasses write, and does nothing more."""
    parameters: Any = vars(kind).get("__dataclass_params__")  # of the class itself: an heir may have a constructor
    own = {name for each in kind.__mro__[:-1] for name in ("__new__", "__post_init__") if name in vars(each)}
    return parameters is not None and bool(parameters.init) and type(kind) is type and not own


def _made_anew(value: Any) -> bool:
    fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    try:
        other = type(value)(**fields)
    except Exception:  # whatever the user's own constructor raises
        return False
    return all(_same(getattr(other, name, None), item) for name, item in fields.items())


def _same(one: Any, other: Any) -> bool:
    ones, others = leaves(one), leaves(other)
    return type(one) is type(other) and len(ones) == len(others) and all(map(operator.is_, ones, others))
