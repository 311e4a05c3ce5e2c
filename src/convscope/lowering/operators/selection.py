"""Choosing and reordering channels: shuffles, slices, chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from convscope.lowering.builder import Builder, Value, lowers_function, lowers_method, lowers_module
from convscope.lowering.plan import Attribute


def select(b: Builder, x: Value, channels: Sequence[int]) -> Value:
    """y_k = x_{channels[k]}: a 1×1 convolution whose table connects each map to one other, with weights of 1."""
    if list(channels) == list(range(x.shape[0])):
        return x
    attributes: dict[str, Attribute] = {
        "out_channels": len(channels),
        "kernel_size": [1, 1],
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "table": [[channel] for channel in channels],
    }
    weight = b.constant(len(channels), 1.0)
    return b.record("conv2d", x, (len(channels), *x.shape[1:]), attributes, {"weight": weight})


@lowers_module(nn.ChannelShuffle)
def _(b: Builder, m: nn.ChannelShuffle, x: Any) -> Value:
    return shuffle(b, x, m.groups)


@lowers_function(torch.channel_shuffle)
def shuffle(b: Builder, input: Any, groups: int) -> Value:
    """y_{j·g + i} = x_{i·(c/g) + j} for g groups of c/g maps, i < g, j < c/g."""
    x = b.maps(input)
    channels = x.shape[0]
    if groups < 1 or channels % groups:
        b.refuse(f"groups={groups}, which does not divide the {channels} channels of {b.shown(x)}")
    return select(b, x, [(k % groups) * (channels // groups) + k // groups for k in range(channels)])


@lowers_function(torch.chunk)
@lowers_method("chunk")
def _(b: Builder, input: Any, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    x = b.tensor(input)
    return _parts(b, x, -(-x.shape[0] // chunks), dim)


@lowers_function(torch.split, torch.functional.split)
@lowers_method("split")
def _(b: Builder, input: Any, split_size: Any, dim: int = 0) -> tuple[Value, ...]:
    return _parts(b, b.tensor(input), split_size, dim)


def _parts(b: Builder, x: Value, sizes: Any, dim: int) -> tuple[Value, ...]:
    """``x`` cut along the channels into parts of one size, the last with what is left, or of a list of sizes."""
    if dim not in ((1, -1) if x.flat else (1, -3)):
        b.refuse(f"cuts {b.shown(x)} along dim {dim}, the engine along the channels, dim 1, only")
    channels = x.shape[0]
    if isinstance(sizes, int):
        starts = list(range(0, channels, sizes))
        return tuple(select(b, x, range(start, min(start + sizes, channels))) for start in starts)
    if sum(sizes) != channels:
        b.refuse(f"cuts {b.shown(x)} into {list(sizes)} channels, which are not {channels} in all")
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return tuple(select(b, x, range(end - size, end)) for end, size in zip(ends, sizes, strict=True))
