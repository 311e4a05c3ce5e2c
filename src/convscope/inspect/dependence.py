"""Which positions one operation reads: per spatial dimension a table, one row an output position.

A convolution along one dimension reads, for output o, the inputs i = o·s − p + d·j, j = 0 … k−1, of which those outside
0 … n−1 are padding. For any operation without such a formula here the table is found by experiment: one input row at a
time is filled with not-a-number, and the outputs that become not-a-number are those that read it (0 · NaN is NaN, so a
weight that happens to be zero still counts as a connection).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from convscope.graph.calls import Step, TensorLike, call
from convscope.layers import MultiHeadAttention
from convscope.rules.elementwise import row_of

Reads = npt.NDArray[np.int64]  # (outputs, most reads of one output), −1 where there is none


@dataclasses.dataclass(frozen=True)
class Progression:
    """The regular part of an operation along one dimension: output o reads o·stride + offset … + reach − 1."""

    stride: float
    offset: float
    reach: float


@dataclasses.dataclass(frozen=True)
class Dimension:
    """What an operation does along one dimension of its input.

    ``axis`` is the output's dimension that runs along with it, None where every output reads the same positions
    (``reads`` then has one row). ``progression`` is None where the operation is not regular.
    """

    axis: int | None
    reads: Reads
    progression: Progression | None


# what leaves every place where it is, beside the element-wise functions of the table
_IN_PLACE_MODULES = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
    nn.modules.batchnorm._BatchNorm,
    nn.PReLU,
    nn.RReLU,
)
_IN_PLACE_FUNCTIONS = frozenset((
    "add", "sub", "mul", "truediv", "div", "iadd", "isub", "imul", "itruediv", "maximum", "minimum", "prelu", "rrelu",
    "dropout", "batch_norm", "contiguous", "clone", "detach", "float", "double", "to",
))  # fmt: skip


_CUT = frozenset(("chunk", "split", "tensor_split", "split_with_sizes"))  # parts that lie one behind the other


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the several results of ``maker``, as a function of the maker's own arguments. ``parts`` are all of them,
    as the call that took the one saw them."""

    maker: Step
    key: Any
    parts: Any

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        result = call(dataclasses.replace(self.maker, arguments=arguments, keywords=keywords))
        return (
            getattr(result, self.key) if isinstance(self.key, str) and hasattr(result, self.key) else result[self.key]
        )

    def first(self, axis: int) -> int | None:
        """Where the part begins along ``axis`` of a tensor that was cut into pieces; None for other results."""
        if self.maker.kind not in _CUT or not isinstance(self.key, int) or not isinstance(self.parts, tuple | list):
            return None
        before: Sequence[TensorLike] = self.parts[: self.key % len(self.parts)]
        return sum(each.shape[axis] for each in before)


def single(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps that put out one tensor. What takes one of several results (``x.chunk(2, 2)[1]``) is given as one call
    with the arguments of the call that made them."""
    makers: dict[str, Step] = {}
    for step in steps:
        if step.output_shape is None:
            makers[step.name] = step
            continue
        maker = makers.get(step.inputs[0].source) if step.kind in ("getitem", "getattr") and step.inputs else None
        if maker is None:
            yield step
        else:
            part = Part(maker, step.arguments[1], step.arguments[0])
            yield dataclasses.replace(
                step, kind=maker.kind, function=part, arguments=maker.arguments, keywords=maker.keywords
            )


def along(step: Step, source: TensorLike, axis: int) -> Dimension:
    """How ``step`` reads dimension ``axis`` of its input ``source``."""
    if _stays_whole(step, source, axis):
        return _identity(axis, source.shape[axis])
    for formula in (_by_module, _by_function):
        found = formula(step, source, axis)
        if found is not None:
            return found
    if (moved := _moved(step, source, axis)) is not None:
        return Dimension(moved, np.arange(source.shape[axis])[:, None], Progression(1, 0, 1))
    return probe(step, source, axis)


def _stays_whole(step: Step, source: TensorLike, axis: int) -> bool:
    """Whether nothing along ``axis`` can change: there is one place before and after."""
    if step.output_shape is None:
        return False
    one = source.shape[axis] == 1 and len(step.output_shape) == len(source.shape) and step.output_shape[axis] == 1
    return one and not hasattr(step.module, "kernel_size")


def _by_module(step: Step, source: TensorLike, axis: int) -> Dimension | None:
    module, size, output = step.module, source.shape[axis], step.output_shape or ()
    if module is None:
        return None
    if isinstance(module, _IN_PLACE_MODULES) or row_of(module) is not None:
        return _identity(axis, size)
    if isinstance(module, nn.Linear):
        return _everything(size) if axis == len(source.shape) - 1 else _identity(axis, size)
    if isinstance(module, MultiHeadAttention) and axis == 1 and (found := _by_attention(module, step, source)):
        return found
    if axis < 2 or len(output) != len(source.shape):
        return None
    window = window_of(module, axis - 2, len(output) - 2)
    return None if window is None else window(size, output[axis], axis)


def _by_attention(module: MultiHeadAttention, step: Step, source: TensorLike) -> Dimension | None:
    """What a probe does not see: a masked weight is 0, and 0 · NaN is NaN."""
    size = source.shape[1]
    if len(step.inputs) == 1 and module.causal:
        places = np.arange(size)
        return Dimension(1, np.where(places <= places[:, None], places, -1), None)
    if len(step.inputs) == 2 and step.inputs[0].source != step.inputs[1].source:
        return _identity(1, size) if source == step.inputs[0] else _everything(size)
    return None


def _by_function(step: Step, source: TensorLike, axis: int) -> Dimension | None:
    size, output = source.shape[axis], step.output_shape or ()
    if isinstance(step.function, Part) and len(output) == len(source.shape):
        first = step.function.first(axis)
        if first is not None:
            cut = output[axis] < size
            begin = first if cut else 0
            return Dimension(axis, np.arange(begin, begin + output[axis])[:, None], Progression(1, begin, 1))
    stays = step.kind in _IN_PLACE_FUNCTIONS or row_of(step.module, step.function) is not None
    if stays and len(output) == len(source.shape):
        if output[axis] == size:
            return _identity(axis, size)
        if size == 1:  # spread over the other operand's places
            return Dimension(axis, np.zeros((output[axis], 1), np.int64), None)
    if step.kind == "cat" and axis != _cat_dimension(step) % len(output):
        return _identity(axis, size)
    return None


def _moved(step: Step, source: TensorLike, axis: int) -> int | None:
    """Where a step that only rearranges leaves dimension ``axis`` whole; None where it does not, or is another step."""
    before, after = source.shape, step.output_shape or ()
    if step.kind in ("view", "reshape", "flatten"):
        behind = len(before) - axis
        same = len(after) >= behind and after[-behind:] == before[-behind:]
        return len(after) - behind if same and len(after) > behind else None
    numbers = [item for item in step.arguments[1:] if isinstance(item, int)]
    if step.kind == "transpose" and len(numbers) == 2:
        one, other = (item % len(before) for item in numbers)
        return {one: other, other: one}.get(axis, axis)
    return None


def window_of(module: nn.Module, dimension: int, dimensions: int) -> Callable[[int, int, int], Dimension] | None:
    """The formula of a convolution or pooling along one of its spatial dimensions; None where there is none."""
    if isinstance(module, nn.modules.pooling._AdaptiveAvgPoolNd | nn.modules.pooling._AdaptiveMaxPoolNd):
        return _adaptive
    if isinstance(module, nn.Unfold | nn.Fold | nn.modules.pooling._MaxUnpoolNd) or not hasattr(module, "kernel_size"):
        return None
    value = {
        name: _component(getattr(module, name, default), dimension, dimensions)
        for name, default in (("kernel_size", 1), ("stride", None), ("padding", 0), ("dilation", 1))
    }
    kernel, dilation = value["kernel_size"], value["dilation"]
    if not isinstance(kernel, int) or not isinstance(dilation, int):
        return None
    stride = value["stride"] if isinstance(value["stride"], int) else kernel
    padding = value["padding"]
    if padding == "same":
        padding = dilation * (kernel - 1) // 2
    elif padding == "valid":
        padding = 0
    if not isinstance(padding, int):
        return None
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return lambda size, out, axis: _transposed(size, out, axis, kernel, stride, padding, dilation)
    mode = str(getattr(module, "padding_mode", "zeros"))
    return lambda size, out, axis: _sliding(size, out, axis, kernel, stride, padding, dilation, mode)


def probe(step: Step, source: TensorLike, axis: int) -> Dimension:
    """Find by experiment what ``step`` reads along ``axis``.

    Where outputs along more than one dimension depend on it in different ways (attention, for example), every output is
    taken to read every position.
    """
    size = source.shape[axis]
    if not source.dtype.is_floating_point:
        return _everything(size)
    read_by: dict[int, list[torch.Tensor]] = {}  # by the output's dimension: which of its rows each position reaches
    with torch.no_grad():
        for position in range(size):
            result = call(step, source, _poisoned(source, axis, position))
            if not isinstance(result, torch.Tensor) or not result.is_floating_point():
                return _everything(size)
            mark = result.isnan()
            for out_axis in range(1, mark.dim()):
                others = [item for item in range(mark.dim()) if item != out_axis]
                read_by.setdefault(out_axis, []).append(mark.any(dim=others) if others else mark)
    varying: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for out_axis, rows in read_by.items():
        table = torch.stack(rows, dim=1)
        read = table[:, table.any(dim=0)]  # without the positions that no output reads (cut off by a slice)
        if read.shape[1] and bool((read != read[:, :1]).any()):
            varying.append((out_axis, table.numpy()))
    if len(varying) != 1:
        return _everything(size)
    out_axis, table_array = varying[0]
    return Dimension(out_axis, _from_table(table_array), _regular(table_array))


def _poisoned(source: TensorLike, axis: int, position: int) -> torch.Tensor:
    tensor = torch.zeros(source.shape, dtype=source.dtype)
    tensor.select(axis, position).fill_(float("nan"))
    return tensor


def _component(value: Any, dimension: int, dimensions: int) -> Any:
    if isinstance(value, tuple | list):
        return value[dimension] if len(value) == dimensions else None
    return value


def _identity(axis: int, size: int) -> Dimension:
    return Dimension(axis, np.arange(size)[:, None], Progression(1, 0, 1))


def _everything(size: int) -> Dimension:
    return Dimension(None, np.arange(size)[None, :], None)


def _sliding(
    size: int, out: int, axis: int, kernel: int, stride: int, padding: int, dilation: int, mode: str
) -> Dimension:
    index = np.arange(out)[:, None] * stride - padding + np.arange(kernel)[None, :] * dilation
    regular = Progression(stride, -padding, dilation * (kernel - 1) + 1)
    if mode == "circular":
        return Dimension(axis, index % size, regular)
    if mode == "reflect":
        index = np.abs(index)
        return Dimension(axis, np.where(index >= size, 2 * (size - 1) - index, index), regular)
    if mode == "replicate":
        return Dimension(axis, index.clip(0, size - 1), regular)
    return Dimension(axis, np.where((index < 0) | (index >= size), -1, index), regular)


def _transposed(size: int, out: int, axis: int, kernel: int, stride: int, padding: int, dilation: int) -> Dimension:
    """Output o gathers input i through tap j where o = i·s − p + d·j."""
    numerator = np.arange(out)[:, None] + padding - dilation * np.arange(kernel)[None, :]
    index = numerator // stride
    index = np.where((numerator % stride != 0) | (index < 0) | (index >= size), -1, index)
    reach = (dilation * (kernel - 1)) // stride + 1
    return Dimension(axis, index, Progression(1 / stride, (padding - dilation * (kernel - 1)) / stride, reach))


def _adaptive(size: int, out: int, axis: int) -> Dimension:
    """Output o reads ⌊o·n/m⌋ … ⌈(o+1)·n/m⌉ − 1."""
    table = np.zeros((out, size), bool)
    for position in range(out):
        table[position, position * size // out : -(-(position + 1) * size // out)] = True
    if out == 1:
        return Dimension(axis, np.arange(size)[None, :], None)
    return Dimension(axis, _from_table(table), _regular(table))


def _cat_dimension(step: Step) -> int:
    given = step.keywords.get("dim", step.keywords.get("axis", step.arguments[1] if len(step.arguments) > 1 else 0))
    return int(given)


def _from_table(table: npt.NDArray[np.bool_]) -> Reads:
    most = max(int(table.sum(axis=1).max()), 1)
    reads = np.full((table.shape[0], most), -1, np.int64)
    for row, flags in enumerate(table):
        found = np.flatnonzero(flags)
        reads[row, : len(found)] = found
    return reads


def _regular(table: npt.NDArray[np.bool_]) -> Progression | None:
    """Stride, offset and reach of a table whose inner rows are one pattern moved along; None where they are not."""
    rows = [np.flatnonzero(flags) for flags in table]
    reach = max((int(row[-1] - row[0]) + 1 for row in rows if len(row)), default=0)
    inner = [(o, int(row[0])) for o, row in enumerate(rows) if len(row) and row[-1] - row[0] + 1 == reach]
    if len(inner) < 2:
        return None
    (first, start), (second, following) = inner[0], inner[1]
    stride = (following - start) / (second - first)
    if stride <= 0 or any(position != start + stride * (o - first) for o, position in inner):
        return None
    return Progression(stride, start - stride * first, reach)
