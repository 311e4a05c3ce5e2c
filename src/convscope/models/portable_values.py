"""Arguments of calls in a portable graph, as JSON data and back."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping
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
        return _refuse(value, where)
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
    if kind == "tuple":
        return tuple(decode(item, values) for item in content)
    if kind == "dict":
        return {key: decode(item, values) for key, item in content.items()}
    if kind == "slice":
        return slice(*(decode(item, values) for item in content))
    if kind == "auxiliary_outputs":
        return AuxiliaryOutputs(*(decode(item, values) for item in content))
    if kind == "float":
        return float(content)
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        return torch.device(content)
    if kind == "dtype" and isinstance(found := getattr(torch, str(content), None), torch.dtype):
        return found
    raise ArgumentError("description", value, "an argument of one known kind")
