"""Arguments of calls in a portable graph, as JSON data and back."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from convscope.errors import ArgumentError
from convscope.layers import AuxiliaryOutputs


def encode(value: Any, where: str) -> Any:
    """JSON data for an argument; what JSON lacks becomes a dict of one key that tells its kind.

    Raises ArgumentError naming ``where`` (the call) for a value of another kind.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, AuxiliaryOutputs):
        return {"auxiliary_outputs": [encode(item, where) for item in value]}
    if isinstance(value, list):
        return [encode(item, where) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"named": [type(value).__name__, {name: encode(getattr(value, name), where) for name in value._fields}]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, where) for item in value]}
    if isinstance(value, slice):
        return {"slice": [encode(item, where) for item in (value.start, value.stop, value.step)]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(item, where) for key, item in value.items()}}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if value is Ellipsis:
        return {"ellipsis": True}
    raise ArgumentError(
        "model", f"{type(value).__name__} in the call of {where}", "numbers, strings, tensors and lists"
    )


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
    if kind == "tuple":
        return tuple(decode(item, values) for item in content)
    if kind == "dict":
        return {key: decode(item, values) for key, item in content.items()}
    if kind == "named":
        name, fields = content
        return _named_tuple(str(name), tuple(map(str, fields)))(*(decode(item, values) for item in fields.values()))
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
