"""Parts of a tensor: slices, chunks, single places."""

from __future__ import annotations

import operator
from typing import Any

import torch

from convscope.lowering.builder import Builder, lowers_function, lowers_method
from convscope.lowering.values import Value


@lowers_function(torch.chunk)
@lowers_method("chunk")
def chunk(b: Builder, input: Any, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    x = b.tensor(input)
    axis = b.axis(dim, x, "cuts along dim")
    return _parts(b, x, -(-x.sizes[axis] // chunks), axis)


@lowers_function(torch.split, torch.functional.split)
@lowers_method("split", "split_with_sizes")
def _(b: Builder, input: Any, split_size: Any, dim: int = 0) -> tuple[Value, ...]:
    x = b.tensor(input)
    return _parts(b, x, split_size, b.axis(dim, x, "cuts along dim"))


def _parts(b: Builder, x: Value, sizes: Any, axis: int) -> tuple[Value, ...]:
    """``x`` cut along a side into parts of one size, the last with what is left, or of a list of sizes."""
    whole = x.sizes[axis]
    if isinstance(sizes, int):
        starts = list(range(0, whole, sizes))
        return tuple(x.sliced(axis, range(start, min(start + sizes, whole))) for start in starts)
    if sum(sizes) != whole:
        b.refuse(f"cuts a side of {b.shown(x)} into {list(sizes)}, which are not {whole} in all")
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return tuple(x.sliced(axis, range(end - size, end)) for end, size in zip(ends, sizes, strict=True))


@lowers_function(torch.unbind)
@lowers_method("unbind")
def _(b: Builder, input: Any, dim: int = 0) -> tuple[Value, ...]:
    x = b.tensor(input)
    axis = b.axis(dim, x, "takes apart dim")
    return tuple(x.chosen(axis, index) for index in range(x.sizes[axis]))


@lowers_function(torch.select)
@lowers_method("select")
def _(b: Builder, input: Any, dim: int, index: int) -> Value:
    x = b.tensor(input)
    axis = b.axis(dim, x, "selects from dim")
    return x.chosen(axis, range(x.sizes[axis])[index])


@lowers_function(torch.narrow)
@lowers_method("narrow")
def _(b: Builder, input: Any, dim: int, start: int, length: int) -> Value:
    x = b.tensor(input)
    return x.sliced(b.axis(dim, x, "narrows dim"), range(start, start + length))


@lowers_function(operator.getitem)
def _(b: Builder, container: Any, index: Any) -> Any:
    if not isinstance(container, Value):
        return container[index]
    indices = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [each for each in indices if each is None or not isinstance(each, Value | torch.Tensor)]:
        place = next(number for number, each in enumerate(indices) if each is Ellipsis)
        missing = len(container.sizes) + 1 - sum(each is not None for each in indices) + 1
        indices[place : place + 1] = [slice(None)] * missing
    x, axis = container, 0
    if not indices or indices[0] != slice(None):
        b.refuse(f"takes the part {index} of {b.shown(x)}, the engine keeps all images, [:, …]")
    for each in indices[1:]:
        if each is None:
            x = x.with_new(axis)
            axis += 1
            continue
        size = x.sizes[axis] if axis < len(x.sizes) else 0
        if isinstance(each, bool) or not isinstance(each, int | slice) or not _is_within(each, size):
            b.refuse(f"takes the part {index} of {b.shown(container)}, the engine takes slices and single places only")
        if isinstance(each, int):
            x = x.chosen(axis, range(size)[each])
        else:
            x = x.sliced(axis, range(size)[each])
            axis += 1
    return x


def _is_within(index: int | slice, size: int) -> bool:
    return -size <= index < size if isinstance(index, int) else len(range(size)[index]) > 0 and (index.step or 1) > 0
