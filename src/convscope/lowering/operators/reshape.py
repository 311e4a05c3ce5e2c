"""Changes of shape: maps to features, and what leaves the numbers where they are."""

from __future__ import annotations

import builtins
import operator
from typing import Any

import torch
from torch import nn

from convscope.lowering.builder import BATCH, Builder, Value, lowers_function, lowers_method, lowers_module
from convscope.lowering.operators.selection import select


def flatten_all(b: Builder, x: Value) -> Value:
    """(n, c, h, w) → (n, c·h·w)"""
    return x if x.flat else b.record("flatten", x, (x.size, 1, 1), flat=True)


@lowers_module(nn.Flatten)
def _(b: Builder, m: nn.Flatten, x: Any) -> Value:
    return flatten(b, x, m.start_dim, m.end_dim)


@lowers_function(torch.flatten)
@lowers_method("flatten")
def flatten(b: Builder, input: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    x = b.tensor(input)
    dims = len(x.torch_shape) + 1
    start, end = start_dim % dims, end_dim % dims
    if start == end:
        return x
    if start != 1 or end != dims - 1:
        b.refuse(
            f"flattens dims {start_dim} to {end_dim} of {b.shown(x)}, the engine flattens everything but the batch"
        )
    return flatten_all(b, x)


@lowers_function(torch.reshape)
@lowers_method("view", "reshape")
def reshape(b: Builder, input: Any, *sizes: Any) -> Value:
    x = b.tensor(input)
    wanted = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else list(sizes)
    if not wanted or not (wanted[0] is BATCH or wanted[0] == -1):
        b.refuse(f"reshapes to {wanted}, the engine keeps the batch as the first side, so give it as x.size(0) or -1")
    sides = wanted[1:]
    known = 1
    for side in sides:
        if not isinstance(side, int):
            b.refuse(f"reshapes to {wanted}, which the engine cannot work out")
        known *= side if side != -1 else 1
    if sides.count(-1) == 1 and wanted[0] is BATCH and known > 0:
        sides[sides.index(-1)] = x.size // known
    total = 1
    for side in sides:
        total *= side
    if -1 in sides or total != x.size:
        b.refuse(f"reshapes {b.shown(x)} to {wanted}, which would mix images of the batch")
    return _reshaped(b, x, tuple(sides))


def _reshaped(b: Builder, x: Value, sides: tuple[int, ...]) -> Value:
    if sides == x.torch_shape:
        return x
    if sides == (x.size,):
        return flatten_all(b, x)
    if sides == (x.size, 1, 1):
        return Value(flatten_all(b, x).number, (x.size, 1, 1))
    return b.refuse(
        f"reshapes {b.shown(x)} to maps of {sides}, the engine makes features (n, f) of maps, not the reverse"
    )


@lowers_module(nn.Unflatten)
def _(b: Builder, m: nn.Unflatten, x: Any) -> Value:
    x = b.features(x)
    if m.dim not in (1, -1):
        b.refuse(f"dim={m.dim}, the engine splits features, dim 1, only")
    return reshape(b, x, BATCH, *m.unflattened_size)


@lowers_function(torch.squeeze)
@lowers_method("squeeze")
def _(b: Builder, input: Any, dim: Any = None) -> Value:
    x = b.tensor(input)
    if dim is None:
        b.refuse("squeezes every side of 1, also the batch's; name the dims, (2, 3)")
    dims = {each % (len(x.torch_shape) + 1) for each in (dim if isinstance(dim, tuple | list) else (dim,))}
    if x.flat or x.shape[1:] != (1, 1):
        b.refuse(f"squeezes {b.shown(x)}, the engine knows this for maps of 1×1 only")
    if dims != {2, 3}:
        b.refuse(f"squeezes dims {dim}, the engine drops both sides, (2, 3), at once")
    return Value(x.number, x.shape, flat=True)


@lowers_function(operator.getitem)
def _(b: Builder, container: Any, index: Any) -> Any:
    if not isinstance(container, Value):
        return container[index]
    x = container
    everything = slice(None)
    if isinstance(index, tuple) and index[:2] == (everything, everything):
        rest = index[2:]
        if x.flat and rest == (None, None):
            return Value(x.number, x.shape)
        if not x.flat and x.shape[1:] == (1, 1) and rest in ((0, 0), (-1, -1)):
            return Value(x.number, x.shape, flat=True)
    chosen = _channels(x, index)
    if chosen is not None:
        return select(b, x, chosen)
    return b.refuse(f"takes the part {index} of {b.shown(x)}, the engine takes channels, [:, a:b], only")


def _channels(x: Value, index: Any) -> range | None:
    """The channels of ``x[:, a:b:c]``, with or without colons behind; None for any other index."""
    everything = slice(None)
    if not isinstance(index, tuple) or not 2 <= len(index) <= len(x.torch_shape) + 1 or index[0] != everything:
        return None
    if any(each != everything for each in index[2:]) or not isinstance(index[1], slice):
        return None
    chosen = range(x.shape[0])[index[1]]
    return chosen if len(chosen) and (index[1].step or 1) > 0 else None


@lowers_method("contiguous", "clone", "float")
def _(b: Builder, input: Any, *args: Any, **kwargs: Any) -> Value:
    return b.tensor(input)


@lowers_method("size")
def _(b: Builder, input: Any, dim: int | None = None) -> Any:
    x = b.tensor(input)
    sizes = (BATCH, *x.torch_shape)
    return sizes if dim is None else sizes[dim]


@lowers_method("dim", "ndimension")
def _(b: Builder, input: Any) -> int:
    return len(b.tensor(input).torch_shape) + 1


@lowers_function(builtins.getattr)
def _(b: Builder, owner: Any, name: str) -> Any:
    x = b.tensor(owner)
    if name == "shape":
        return (BATCH, *x.torch_shape)
    if name == "ndim":
        return len(x.torch_shape) + 1
    if name == "dtype":
        return torch.float32
    return b.refuse(f"reads the attribute {name!r} of a tensor, which the engine does not know")


@lowers_function(builtins.len)
def _(b: Builder, x: Any) -> Any:
    return BATCH if isinstance(x, Value) else len(x)


@lowers_function(torch._assert)
def _(b: Builder, condition: Any, message: str) -> None:
    if not condition:
        b.refuse(f"asserts: {message}")
