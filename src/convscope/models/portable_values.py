"""Arguments of calls in a portable graph, as JSON data and back."""

from __future__ import annotations

import collections
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from convscope.errors import ArgumentError
from convscope.layers import AuxiliaryOutputs


@functools.singledispatch
def encode(value: Any, where: str) -> Any:
    """JSON data for an argument; what JSON lacks becomes a dict of one key that tells its kind.

    Raises ArgumentError naming ``where`` (the call) for a value of another kind.
    """
    raise ArgumentError(
        "model", f"{type(value).__name__} in the call of {where}", "numbers, strings, tensors and lists"
    )


_refuse = encode.dispatch(object)


@encode.register(type(None))
@encode.register(bool)
@encode.register(int)
@encode.register(str)
def _(value: Any, where: str) -> Any:
    return value


@encode.register
def _(value: float, where: str) -> Any:
    return value if math.isfinite(value) else {"float": repr(value)}


@encode.register
def _(value: fx.Node, where: str) -> Any:
    return {"node": value.name}


@encode.register
def _(value: AuxiliaryOutputs, where: str) -> Any:
    return {"auxiliary_outputs": [encode(item, where) for item in value]}


@encode.register
def _(value: list, where: str) -> Any:  # type: ignore[type-arg]  # the dispatch takes no list[Any]
    return [encode(item, where) for item in value]


@encode.register
def _(value: tuple, where: str) -> Any:  # type: ignore[type-arg]
    if hasattr(value, "_fields"):  # a named tuple is more than its items
        return {"named": [type(value).__name__, {name: encode(getattr(value, name), where) for name in value._fields}]}
    return {"tuple": [encode(item, where) for item in value]}


@encode.register
def _(value: slice, where: str) -> Any:
    return {"slice": [encode(item, where) for item in (value.start, value.stop, value.step)]}


@encode.register(Mapping)
def _(value: Mapping[Any, Any], where: str) -> Any:
    if not all(isinstance(key, str) for key in value):
        return _refuse(value, where)
    return {"dict": {key: encode(item, where) for key, item in value.items()}}


@encode.register
def _(value: torch.dtype, where: str) -> Any:
    return {"dtype": str(value).removeprefix("torch.")}


@encode.register
def _(value: torch.device, where: str) -> Any:
    return {"device": str(value)}


@encode.register
def _(value: types.EllipsisType, where: str) -> Any:
    return {"ellipsis": True}


@functools.cache
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    """A class that stands for one whose code is elsewhere: the same name and the same fields."""
    return collections.namedtuple(name, fields)


def decode(value: Any, values: Mapping[str, Any]) -> Any:
    """The argument that ``encode`` wrote, with the results of earlier calls from ``values``."""
    if isinstance(value, list):
        return [decode(item, values) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ArgumentError("description", value, "an argument of one known kind")
    ((kind, content),) = value.items()
    if kind == "node":
        return values[content]
    if kind == "float":
        return float(content)
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        return torch.device(content)
    if kind == "dtype" and isinstance(found := getattr(torch, str(content), None), torch.dtype):
        return found
    if kind in _NESTS:
        return _NESTS[kind](content, lambda item: decode(item, values))
    raise ArgumentError("description", value, "an argument of one known kind")


def _named(content: Any, decoded: Callable[[Any], Any]) -> Any:
    name, fields = content
    return _named_tuple(str(name), tuple(map(str, fields)))(*map(decoded, fields.values()))


_NESTS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "tuple": lambda content, decoded: tuple(map(decoded, content)),
    "dict": lambda content, decoded: {key: decoded(item) for key, item in content.items()},
    "named": _named,
    "slice": lambda content, decoded: slice(*map(decoded, content)),
    "auxiliary_outputs": lambda content, decoded: AuxiliaryOutputs(*map(decoded, content)),
}
