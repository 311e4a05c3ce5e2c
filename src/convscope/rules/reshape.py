"""Operations that only move numbers about: flatten, permute, slice, split; and means and sums over dimensions.

Each is linear, y = L·x, and its rule takes back the exact adjoint, δ_x = Lᵀ·δ.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import (
    Applied,
    Deltas,
    Gradients,
    Rule,
    Saved,
    rule_for_function,
    rule_for_method,
    rule_for_module,
)


@dataclasses.dataclass(frozen=True)
class Reshape(Rule):
    """y = x in another shape, in the same order,   δ_x = δ in x's shape.

    Flatten, view, reshape, squeeze and unsqueeze, each given the ``shape`` that it results in.
    """

    kind = "reshape"
    needs = ("shape",)
    shape: tuple[int, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x.reshape(self.shape), {"shape": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta.reshape(saved["shape"]),), {}


@dataclasses.dataclass(frozen=True)
class Permute(Rule):
    """y = x with its dimensions in the order ``order``,   δ_x = δ in the inverse order."""

    kind = "reshape"
    needs = ()
    order: tuple[int, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x.permute(self.order), {}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        places = [dim % len(self.order) for dim in self.order]
        inverse = sorted(range(len(places)), key=places.__getitem__)
        return (delta.permute(inverse),), {}


@dataclasses.dataclass(frozen=True)
class Slice(Rule):
    """y = x[index],   δ_x = δ at the chosen places, 0 elsewhere; an element chosen twice gets both δ.

    ``index`` is anything that indexes a tensor: numbers, slices, ``...``, None, tensors of indices or of truth values.
    """

    kind = "reshape"
    needs = ("shape",)
    index: Any

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x[self.index], {"shape": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        places = torch.arange(math.prod(saved["shape"]), device=delta.device).reshape(saved["shape"])[self.index]
        delta_x = delta.new_zeros(math.prod(saved["shape"]))
        delta_x.index_add_(0, places.reshape(-1), delta.reshape(-1))
        return (delta_x.reshape(saved["shape"]),), {}


@dataclasses.dataclass(frozen=True)
class Split(Rule):
    """(y₁, y₂, …) = x cut along ``dim`` into ``lengths``,   δ_x = the parts' δ joined, 0 for an unused part."""

    kind = "reshape"
    needs = ("parts",)
    lengths: tuple[int, ...]
    dim: int = 0

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...], Saved]:
        parts = tuple(torch.split(x, list(self.lengths), self.dim))
        return parts, {"parts": parts}

    def backward(self, saved: Saved, delta: Sequence[Tensor | None]) -> tuple[Deltas, Gradients]:
        whole = [torch.zeros_like(y) if d is None else d for y, d in zip(saved["parts"], delta, strict=True)]
        return (torch.cat(whole, self.dim),), {}


@dataclasses.dataclass(frozen=True)
class Select(Rule):
    """y = one of several outputs of a node,   δ goes to that one."""

    kind = "reshape"
    needs = ()

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x, {}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta,), {}


@dataclasses.dataclass(frozen=True)
class Copy(Rule):
    """y = x, laid out anew in memory,   δ_x = δ."""

    kind = "reshape"
    needs = ()

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x.clone(), {}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta,), {}


@dataclasses.dataclass(frozen=True)
class Expand(Rule):
    """y = x stretched to ``shape`` by repetition,   δ_x = δ summed over the stretched dimensions."""

    kind = "reshape"
    needs = ("shape",)
    shape: tuple[int, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return x.expand(self.shape), {"shape": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        shape = saved["shape"]
        extra = delta.ndim - len(shape)
        stretched = [d for d in range(delta.ndim) if d < extra or (shape[d - extra] == 1 and delta.shape[d] != 1)]
        return ((delta.sum(stretched, keepdim=True) if stretched else delta).reshape(shape),), {}


@dataclasses.dataclass(frozen=True)
class Total(Rule):
    """y = Σ x over ``over`` (times 1/g with ``mean``),   every summed element gets δ (or δ/g).

    ``over`` None means all dimensions. The mean over height and width is global mean pooling.
    """

    kind = "pool"
    needs = ("shape",)
    over: tuple[int, ...] | None = None
    keepdim: bool = False
    mean: bool = False

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        over = self._dims(x.shape)
        y = x.sum(over, keepdim=self.keepdim) if over else x.clone()
        return y / self._elements(x.shape) if self.mean else y, {"shape": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        shape = saved["shape"]
        over = self._dims(shape)
        kept = tuple(1 if d in over else n for d, n in enumerate(shape))
        share = delta / self._elements(shape) if self.mean else delta
        return (share.reshape(kept).expand(shape),), {}

    def _dims(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(range(len(shape))) if self.over is None else tuple(d % len(shape) for d in self.over)

    def _elements(self, shape: Sequence[int]) -> int:
        return math.prod(shape[d] for d in self._dims(shape))


@dataclasses.dataclass(frozen=True)
class ChannelShuffle(Rule):
    """y = x with channel i·m + k in the place k·g + i   (g ``groups`` of m channels),   δ_x = δ moved back

    Zhang et al. 2018, ShuffleNet: read as a g × m table, the channels are written column by column.
    """

    kind = "reshape"
    needs = ()
    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ArgumentError("groups", self.groups, "an integer ≥ 1")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        if x.shape[1] % self.groups:
            raise ArgumentError("groups", self.groups, f"a divisor of the {x.shape[1]} channels")
        return self._transposed(x, self.groups), {}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (self._transposed(delta, delta.shape[1] // self.groups),), {}

    @staticmethod
    def _transposed(x: Tensor, rows: int) -> Tensor:
        return x.reshape(x.shape[0], rows, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def _to_shape(x: Tensor, shape: Sequence[int]) -> Applied | None:
    return Applied(Reshape(tuple(shape)), (x,)) if isinstance(x, Tensor) else None


def _flattened(x: Tensor, start: int, end: int) -> Applied | None:
    if x.ndim == 0:
        return _to_shape(x, (1,))
    start, end = start % x.ndim, end % x.ndim
    middle = math.prod(x.shape[start : end + 1])
    return _to_shape(x, (*x.shape[:start], middle, *x.shape[end + 1 :]))


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    """``f(1, 2)`` and ``f((1, 2))`` alike."""
    given = values[0] if len(values) == 1 and isinstance(values[0], Sequence) else values
    return tuple(int(value) for value in given)


@rule_for_module(nn.Flatten)
def _(module: nn.Flatten, x: Tensor) -> Rule | None:
    applied = _flattened(x, module.start_dim, module.end_dim)
    return applied.rule if applied is not None else None


@rule_for_module(nn.Unflatten)
def _(module: nn.Unflatten, x: Tensor) -> Rule | None:
    if not isinstance(module.dim, int):
        return None
    dim = module.dim % x.ndim
    sizes = [int(n) for n in module.unflattened_size]
    return Reshape((*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


@rule_for_module(nn.ChannelShuffle)
def _(module: nn.ChannelShuffle, x: Tensor) -> Rule:
    return ChannelShuffle(module.groups)


@rule_for_function(torch.channel_shuffle)
def _(input: Tensor, groups: int) -> Applied:
    return Applied(ChannelShuffle(groups), (input,))


@rule_for_function(torch.flatten)
@rule_for_method("flatten")
def _(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Applied | None:
    return _flattened(input, start_dim, end_dim)


@rule_for_function(torch.reshape)
def _(input: Tensor, shape: Sequence[int]) -> Applied | None:
    return _to_shape(input, _numbers((shape,)))


@rule_for_method("view", "reshape")
def _(self: Tensor, *shape: Any) -> Applied | None:
    if any(isinstance(item, torch.dtype) for item in shape):
        return None
    return _to_shape(self, _numbers(shape))


@rule_for_function(torch.unsqueeze)
@rule_for_method("unsqueeze")
def _(input: Tensor, dim: int) -> Applied | None:
    dim = dim % (input.ndim + 1)
    return _to_shape(input, (*input.shape[:dim], 1, *input.shape[dim:]))


@rule_for_function(torch.squeeze)
@rule_for_method("squeeze")
def _(input: Tensor, dim: Any = None) -> Applied | None:
    dims = range(input.ndim) if dim is None else [d % max(input.ndim, 1) for d in _numbers((dim,))]
    return _to_shape(input, [n for d, n in enumerate(input.shape) if d not in dims or n != 1])


@rule_for_function(torch.permute)
def _(input: Tensor, dims: Sequence[int]) -> Applied | None:
    return Applied(Permute(_numbers((dims,))), (input,))


@rule_for_method("permute")
def _(self: Tensor, *dims: Any) -> Applied | None:
    return Applied(Permute(_numbers(dims)), (self,))


@rule_for_function(torch.transpose)
@rule_for_method("transpose")
def _(input: Tensor, dim0: int, dim1: int) -> Applied | None:
    order = list(range(input.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return Applied(Permute(tuple(order)), (input,))


@rule_for_method("t")
def _(self: Tensor) -> Applied | None:
    return Applied(Permute((1, 0)), (self,)) if self.ndim == 2 else None


@rule_for_method("contiguous", "clone")
def _(self: Tensor) -> Applied | None:
    return Applied(Copy(), (self,))


@rule_for_method("expand")
def _(self: Tensor, *sizes: Any) -> Applied | None:
    wanted = _numbers(sizes)
    extra = len(wanted) - self.ndim
    shape = tuple(self.shape[d - extra] if n == -1 else n for d, n in enumerate(wanted))
    return Applied(Expand(shape), (self,))


@rule_for_function(operator.getitem)
def _(value: Any, index: Any) -> Applied | None:
    if isinstance(value, Tensor):
        return Applied(Slice(index), (value,)) if value.is_floating_point() else None
    chosen = value[index]
    return Applied(Select(), (chosen,)) if isinstance(chosen, Tensor) else None


@rule_for_function(torch.chunk)
@rule_for_method("chunk")
def _(input: Tensor, chunks: int, dim: int = 0) -> Applied | None:
    return _split_evenly(input, -(-input.shape[dim] // chunks), dim)


@rule_for_function(torch.split)
@rule_for_method("split")
def _(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> Applied | None:
    if isinstance(split_size_or_sections, int):
        return _split_evenly(tensor, split_size_or_sections, dim)
    return Applied(Split(tuple(split_size_or_sections), dim), (tensor,))


def _split_evenly(x: Tensor, length: int, dim: int) -> Applied | None:
    n = x.shape[dim]
    if length < 1 or n < 1:
        return None
    return Applied(Split(tuple(min(length, n - start) for start in range(0, n, length)), dim), (x,))


@rule_for_function(torch.mean)
@rule_for_method("mean")
def _(input: Tensor, dim: Any = None, keepdim: bool = False) -> Applied | None:
    return Applied(Total(_over(dim), keepdim, mean=True), (input,)) if input.is_floating_point() else None


@rule_for_function(torch.sum)
@rule_for_method("sum")
def _(input: Tensor, dim: Any = None, keepdim: bool = False) -> Applied | None:
    return Applied(Total(_over(dim), keepdim), (input,)) if input.is_floating_point() else None


def _over(dim: Any) -> tuple[int, ...] | None:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return None
    return (dim,) if isinstance(dim, int) else tuple(dim)
