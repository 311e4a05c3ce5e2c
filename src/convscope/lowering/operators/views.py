"""Views: the same numbers under other sides. They move nothing until a layer wants another order."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import BATCH, Builder, lowers_function, lowers_method, lowers_module
from convscope.lowering.operators.combine import join
from convscope.lowering.values import Value, folded


def reshaped(b: Builder, x: Value, sizes: tuple[int, ...]) -> Value:
    """``x`` as a tensor of ``sizes``, its numbers moved where that is no view."""
    found = x.viewed(sizes)
    if found is None:
        found = b.arranged(x, folded(x.sizes)).viewed(sizes)
        assert found is not None
    return found


@lowers_module(nn.Flatten)
def _(b: Builder, m: nn.Flatten, x: Any) -> Value:
    return flatten(b, x, m.start_dim, m.end_dim)


@lowers_function(torch.flatten)
@lowers_method("flatten")
def flatten(b: Builder, input: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    x = b.tensor(input)
    dims = len(x.sizes) + 1
    start, end = start_dim % dims, end_dim % dims
    if start == end:
        return x
    if start == 0:
        b.refuse(f"flattens dims {start_dim} to {end_dim} of {b.shown(x)}, the engine keeps the batch as it is")
    middle = math.prod(x.sizes[start - 1 : end])
    return reshaped(b, x, (*x.sizes[: start - 1], middle, *x.sizes[end:]))


@lowers_function(torch.reshape)
@lowers_method("view", "reshape")
def reshape(b: Builder, input: Any, *sizes: Any) -> Value:
    x = b.tensor(input)
    if len(sizes) == 1 and isinstance(sizes[0], torch.dtype):
        return _of_type(b, x, sizes[0])
    wanted = _listed(sizes)
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
    if -1 in sides or math.prod(sides) != x.size:
        b.refuse(f"reshapes {b.shown(x)} to {wanted}, which would mix images of the batch")
    return reshaped(b, x, tuple(sides))


def _listed(sizes: Sequence[Any]) -> list[Any]:
    return list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else list(sizes)


@lowers_method("view_as", "reshape_as")
def _(b: Builder, input: Any, other: Any) -> Value:
    x, like = b.tensor(input), b.tensor(other)
    if x.size != like.size:
        b.refuse(f"reshapes {b.shown(x)} to {b.shown(like)}")
    return reshaped(b, x, like.sizes)


@lowers_module(nn.Unflatten)
def _(b: Builder, m: nn.Unflatten, x: Any) -> Value:
    return unflatten(b, x, m.dim, m.unflattened_size)


@lowers_function(torch.unflatten)
@lowers_method("unflatten")
def unflatten(b: Builder, input: Any, dim: Any, sizes: Any) -> Value:
    x = b.tensor(input)
    axis = b.axis(dim, x, "unflattens dim")
    parts = list(sizes)
    if parts.count(-1) == 1:
        parts[parts.index(-1)] = x.sizes[axis] // max(1, -math.prod(parts))
    if math.prod(parts) != x.sizes[axis]:
        b.refuse(f"unflattens a side of {x.sizes[axis]} into {tuple(sizes)}")
    return reshaped(b, x, (*x.sizes[:axis], *parts, *x.sizes[axis + 1 :]))


@lowers_function(torch.squeeze)
@lowers_method("squeeze", "squeeze_")
def squeeze(b: Builder, input: Any, dim: Any = None) -> Value:
    x = b.tensor(input)
    if dim is None:
        b.refuse("squeezes every side of 1, also the batch's; name the dims, (2, 3)")
    axes = [b.axis(each, x, "squeezes dim") for each in (dim if isinstance(dim, tuple | list) else (dim,))]
    for axis in sorted(axes, reverse=True):
        if x.sizes[axis] == 1:
            x = x.without(axis)
    return x


@lowers_function(torch.unsqueeze)
@lowers_method("unsqueeze", "unsqueeze_")
def _(b: Builder, input: Any, dim: int) -> Value:
    x = b.tensor(input)
    place = dim % (len(x.sizes) + 2)
    if place == 0:
        b.refuse("puts a side before the batch")
    return x.with_new(place - 1)


@lowers_function(torch.permute)
@lowers_method("permute")
def permute(b: Builder, input: Any, *dims: Any) -> Value:
    x = b.tensor(input)
    order = [each % (len(x.sizes) + 1) for each in _listed(dims)]
    if not order or order[0] != 0 or sorted(order) != list(range(len(x.sizes) + 1)):
        b.refuse(f"permutes {b.shown(x)} by {order}, the engine keeps the batch as the first side")
    return x.permuted([each - 1 for each in order[1:]])


@lowers_function(torch.transpose, torch.swapaxes, torch.swapdims)
@lowers_method("transpose", "swapaxes", "swapdims", "transpose_")
def _(b: Builder, input: Any, dim0: int, dim1: int) -> Value:
    x = b.tensor(input)
    one, other = (b.axis(each, x, "transposes dim") for each in (dim0, dim1))
    order = list(range(len(x.sizes)))
    order[one], order[other] = other, one
    return x.permuted(order)


@lowers_function(torch.movedim, torch.moveaxis)
@lowers_method("movedim", "moveaxis")
def _(b: Builder, input: Any, source: int, destination: int) -> Value:
    x = b.tensor(input)
    start, end = (b.axis(each, x, "moves dim") for each in (source, destination))
    order = [each for each in range(len(x.sizes)) if each != start]
    order.insert(end, start)
    return x.permuted(order)


@lowers_method("expand")
@lowers_function(torch.broadcast_to)
def expand(b: Builder, input: Any, *sizes: Any) -> Value:
    x = b.tensor(input)
    wanted = _listed(sizes)[1:]
    if len(wanted) != len(x.sizes) or not (_listed(sizes)[0] is BATCH or _listed(sizes)[0] == -1):
        b.refuse(f"expands {b.shown(x)} to {_listed(sizes)}, the engine keeps the batch and the number of sides")
    full = [own if size == -1 else size for own, size in zip(x.sizes, wanted, strict=True)]
    if any(own not in (1, size) for own, size in zip(x.sizes, full, strict=True)):
        b.refuse(f"expands {b.shown(x)} to {_listed(sizes)}")
    return x.expanded(full)


@lowers_method("expand_as")
def _(b: Builder, input: Any, other: Any) -> Value:
    return expand(b, input, BATCH, *b.tensor(other).sizes)


@lowers_method("repeat")
@lowers_function(torch.tile)
def _(b: Builder, input: Any, *repeats: Any) -> Value:
    x = b.tensor(input)
    times = _listed(repeats)
    if len(times) != len(x.sizes) + 1 or times[0] != 1:
        b.refuse(f"repeats {b.shown(x)} {times} times, the engine keeps the batch and the number of sides")
    for axis, count in enumerate(times[1:]):
        if count != 1:
            spread = x.with_new(axis).expanded([*x.sizes[:axis], count, *x.sizes[axis:]])
            sizes = (*x.sizes[:axis], count * x.sizes[axis], *x.sizes[axis + 1 :])
            x = reshaped(b, spread, sizes)
    return x


@lowers_function(torch.repeat_interleave)
@lowers_method("repeat_interleave")
def _(b: Builder, input: Any, repeats: Any, dim: Any = None) -> Value:
    x = b.tensor(input)
    if not isinstance(repeats, int):
        b.refuse("repeats each number its own number of times")
    axis = b.axis(0 if dim is None else dim, x, "repeats along dim")
    spread = x.with_new(axis + 1).expanded([*x.sizes[: axis + 1], repeats, *x.sizes[axis + 1 :]])
    return reshaped(b, spread, (*x.sizes[:axis], repeats * x.sizes[axis], *x.sizes[axis + 1 :]))


@lowers_function(torch.flip)
@lowers_method("flip")
def _(b: Builder, input: Any, *dims: Any) -> Value:
    x = b.tensor(input)
    for dim in _listed(dims):
        axis = b.axis(dim, x, "flips dim")
        x = x.sliced(axis, range(x.sizes[axis] - 1, -1, -1))
    return x


@lowers_function(torch.roll)
@lowers_method("roll")
def _(b: Builder, input: Any, shifts: Any, dims: Any = None) -> Value:
    x = b.tensor(input)
    if dims is None:
        b.refuse("rolls through all sides, also the batch's; name the dims")
    pairs = [(shifts, dims)] if isinstance(dims, int) else list(zip(shifts, dims, strict=True))
    for shift, dim in pairs:
        axis = b.axis(dim, x, "rolls dim")
        size = x.sizes[axis]
        cut = -shift % size
        if cut:
            x = join(b, [x.sliced(axis, range(cut, size)), x.sliced(axis, range(cut))], axis + 1)
    return x


@lowers_module(nn.PixelShuffle)
def _(b: Builder, m: nn.PixelShuffle, x: Any) -> Value:
    return pixel_shuffle(b, x, m.upscale_factor)


@lowers_function(F.pixel_shuffle)
def pixel_shuffle(b: Builder, input: Any, upscale_factor: int) -> Value:
    """(c·r², h, w) → (c, h·r, w·r)"""
    x, r = b.maps(input), upscale_factor
    c, h, w = x.shape
    if c % (r * r):
        b.refuse(f"takes {b.shown(x)}, whose channels {r}·{r} does not divide")
    cut = reshaped(b, x, (c // (r * r), r, r, h, w)).permuted((0, 3, 1, 4, 2))
    return reshaped(b, cut, (c // (r * r), h * r, w * r))


@lowers_module(nn.PixelUnshuffle)
def _(b: Builder, m: nn.PixelUnshuffle, x: Any) -> Value:
    return pixel_unshuffle(b, x, m.downscale_factor)


@lowers_function(F.pixel_unshuffle)
def pixel_unshuffle(b: Builder, input: Any, downscale_factor: int) -> Value:
    """(c, h·r, w·r) → (c·r², h, w)"""
    x, r = b.maps(input), downscale_factor
    c, h, w = x.shape
    if h % r or w % r:
        b.refuse(f"takes {b.shown(x)}, whose sides {r} does not divide")
    cut = reshaped(b, x, (c, h // r, r, w // r, r)).permuted((0, 2, 4, 1, 3))
    return reshaped(b, cut, (c * r * r, h // r, w // r))


@lowers_module(nn.ChannelShuffle)
def _(b: Builder, m: nn.ChannelShuffle, x: Any) -> Value:
    return shuffle(b, x, m.groups)


@lowers_function(torch.channel_shuffle, F.channel_shuffle)
def shuffle(b: Builder, input: Any, groups: int) -> Value:
    """y_{j·g + i} = x_{i·(c/g) + j} for g groups of c/g maps, i < g, j < c/g."""
    x = b.maps(input)
    c, h, w = x.shape
    if groups < 1 or c % groups:
        b.refuse(f"groups={groups}, which does not divide the {c} channels of {b.shown(x)}")
    cut = reshaped(b, x, (groups, c // groups, h, w)).permuted((1, 0, 2, 3))
    return reshaped(b, cut, (c, h, w))


@lowers_method("contiguous", "clone", "requires_grad_")
@lowers_function(torch.clone)
def _(b: Builder, input: Any, *args: Any, **kwargs: Any) -> Value:
    return b.tensor(input)


@lowers_method("float", "to", "type", "type_as")
def _(b: Builder, input: Any, *wanted: Any, **more: Any) -> Value:
    x = b.tensor(input)
    for each in (*wanted, *more.values()):
        if isinstance(each, torch.dtype):
            _of_type(b, x, each)
        elif not isinstance(each, torch.device | torch.memory_format | bool | Value | str | None):
            b.refuse(f"converts to {b.shown(each)}")
    return x


def _of_type(b: Builder, x: Value, dtype: torch.dtype) -> Value:
    return x if dtype == torch.float32 else b.refuse(f"converts to {dtype}, the engine computes in torch.float32")


@lowers_method("size")
def _(b: Builder, input: Any, dim: int | None = None) -> Any:
    sizes = (BATCH, *b.tensor(input).sizes)
    return sizes if dim is None else sizes[dim]


@lowers_method("dim", "ndimension")
def _(b: Builder, input: Any) -> int:
    return len(b.tensor(input).sizes) + 1


@lowers_function(builtins.getattr)
def _(b: Builder, owner: Any, name: str) -> Any:
    if not isinstance(owner, Value):
        return getattr(owner, name)
    x = b.tensor(owner)
    known = {
        "shape": (BATCH, *x.sizes),
        "ndim": len(x.sizes) + 1,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "is_cuda": False,
    }
    if name not in known:
        b.refuse(f"reads the attribute {name!r} of a tensor, which the engine does not know")
    return known[name]


@lowers_function(builtins.len)
def _(b: Builder, x: Any) -> Any:
    return BATCH if isinstance(x, Value) else len(x)


@lowers_function(torch._assert)
def _(b: Builder, condition: Any, message: str) -> None:
    if not condition:
        b.refuse(f"asserts: {message}")
