"""Arithmetic between maps: sums, products and joins, with broadcasting, and their sensitivities."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_method

_Operand = Tensor | float | int


@dataclasses.dataclass(frozen=True)
class Add(Rule):
    """y = a + c·b,   δ_a = δ,   δ_b = c·δ   summed over broadcast dimensions; c = −1 is subtraction.

    The residual sum: each branch gets the whole δ.
    """

    kind = "combine"
    needs = ("shapes",)
    scale: float = 1.0

    def forward(self, a: _Operand, b: _Operand) -> tuple[Tensor, Saved]:
        y = a + b if self.scale == 1 else a + self.scale * b
        assert isinstance(y, Tensor)
        return y, {"shapes": (_shape(a), _shape(b))}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        to_a, to_b = saved["shapes"]
        scaled = delta if self.scale == 1 else delta * self.scale
        return (unbroadcast(delta, to_a), unbroadcast(scaled, to_b)), {}


@dataclasses.dataclass(frozen=True)
class Multiply(Rule):
    """y = a·b,   δ_a = δ·b,   δ_b = δ·a   element by element, summed over broadcast dimensions."""

    kind = "combine"
    needs = ("a", "b")

    def forward(self, a: _Operand, b: _Operand) -> tuple[Tensor, Saved]:
        y = a * b
        assert isinstance(y, Tensor)
        return y, {"a": a, "b": b}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        a, b = saved["a"], saved["b"]
        return (unbroadcast(delta * b, _shape(a)), unbroadcast(delta * a, _shape(b))), {}


@dataclasses.dataclass(frozen=True)
class Divide(Rule):
    """y = a/b,   δ_a = δ/b,   δ_b = −δ·a/b²   element by element, summed over broadcast dimensions."""

    kind = "combine"
    needs = ("a", "b")

    def forward(self, a: _Operand, b: _Operand) -> tuple[Tensor, Saved]:
        y = a / b
        assert isinstance(y, Tensor)
        return y, {"a": a, "b": b}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        a, b = saved["a"], saved["b"]
        return (unbroadcast(delta / b, _shape(a)), unbroadcast(-delta * a / (b * b), _shape(b))), {}


@dataclasses.dataclass(frozen=True)
class MatrixProduct(Rule):
    """Y = A·B,   δ_A = δ·Bᵀ,   δ_B = Aᵀ·δ   for matrices and batches of them, summed over broadcast dimensions."""

    kind = "combine"
    needs = ("a", "b")

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Saved]:
        if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
            raise ArgumentError(
                "b", tuple(b.shape), f"a matrix of {a.shape[-1]} rows to multiply {tuple(a.shape)} with"
            )
        return a @ b, {"a": a, "b": b}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        a, b = saved["a"], saved["b"]
        to_a, to_b = delta @ b.transpose(-1, -2), a.transpose(-1, -2) @ delta
        return (unbroadcast(to_a, a.shape), unbroadcast(to_b, b.shape)), {}


@dataclasses.dataclass(frozen=True)
class Concatenate(Rule):
    """y = [x₁ | x₂ | …] along ``dim``,   δ is cut at the same places."""

    kind = "combine"
    needs = ("lengths",)
    dim: int = 0

    def forward(self, *parts: Tensor) -> tuple[Tensor, Saved]:
        return torch.cat(parts, self.dim), {"lengths": [part.shape[self.dim] for part in parts]}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return tuple(torch.split(delta, saved["lengths"], self.dim)), {}


@dataclasses.dataclass(frozen=True)
class Stack(Rule):
    """y = the parts side by side along the new dimension ``dim``,   each gets its slice of δ."""

    kind = "combine"
    needs = ()
    dim: int = 0

    def forward(self, *parts: Tensor) -> tuple[Tensor, Saved]:
        return torch.stack(parts, self.dim), {}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return delta.unbind(self.dim), {}


def unbroadcast(delta: Tensor, shape: Sequence[int] | None) -> Tensor | None:
    """The adjoint of broadcasting: δ summed over the dimensions that were stretched; None for a plain number."""
    if shape is None:
        return None
    extra = delta.ndim - len(shape)
    stretched = [d for d in range(delta.ndim) if d < extra or (shape[d - extra] == 1 and delta.shape[d] != 1)]
    return (delta.sum(stretched, keepdim=True) if stretched else delta).reshape(tuple(shape))


def _shape(operand: _Operand) -> torch.Size | None:
    return operand.shape if isinstance(operand, Tensor) else None


def _same_type(a: Any, b: Any) -> bool:
    """The rules leave type promotion (integers, mixed precision) to torch."""
    tensors = [item for item in (a, b) if isinstance(item, Tensor)]
    if any(not isinstance(item, Tensor | int | float) for item in (a, b)):
        return False
    return bool(tensors) and all(t.is_floating_point() and t.dtype == tensors[0].dtype for t in tensors)


def _arithmetic(a: Any, b: Any, rule: Rule) -> Applied | None:
    return Applied(rule, (a, b)) if _same_type(a, b) else None


@rule_for_function(operator.add, operator.iadd)
def _(a: Any, b: Any) -> Applied | None:
    return _arithmetic(a, b, Add())


@rule_for_function(operator.sub, operator.isub)
def _(a: Any, b: Any) -> Applied | None:
    return _arithmetic(a, b, Add(-1.0))


@rule_for_function(operator.mul, operator.imul)
def _(a: Any, b: Any) -> Applied | None:
    return _arithmetic(a, b, Multiply())


@rule_for_function(operator.truediv, operator.itruediv)
def _(a: Any, b: Any) -> Applied | None:
    return _arithmetic(a, b, Divide())


@rule_for_function(torch.add)
@rule_for_method("add", "add_")
def _(input: Any, other: Any, *, alpha: float = 1) -> Applied | None:
    return _arithmetic(input, other, Add(float(alpha)))


@rule_for_function(torch.sub)
@rule_for_method("sub", "sub_")
def _(input: Any, other: Any, *, alpha: float = 1) -> Applied | None:
    return _arithmetic(input, other, Add(-float(alpha)))


@rule_for_function(torch.mul)
@rule_for_method("mul", "mul_")
def _(input: Any, other: Any) -> Applied | None:
    return _arithmetic(input, other, Multiply())


@rule_for_function(torch.div)
@rule_for_method("div", "div_")
def _(input: Any, other: Any) -> Applied | None:
    return _arithmetic(input, other, Divide())


@rule_for_function(operator.matmul, torch.matmul, torch.bmm)
@rule_for_method("matmul", "bmm")
def _(input: Tensor, other: Tensor) -> Applied | None:
    if not _same_type(input, other) or input.ndim < 2 or other.ndim < 2:
        return None
    return Applied(MatrixProduct(), (input, other))


@rule_for_function(torch.cat, torch.concat)
def _(tensors: Sequence[Tensor], dim: int = 0) -> Applied | None:
    if any(part.ndim == 1 and part.numel() == 0 for part in tensors):  # torch lets such parts be of another shape
        return None
    return Applied(Concatenate(dim), tuple(tensors)) if _all_alike(tensors) else None


@rule_for_function(torch.stack)
def _(tensors: Sequence[Tensor], dim: int = 0) -> Applied | None:
    return Applied(Stack(dim), tuple(tensors)) if _all_alike(tensors) else None


def _all_alike(tensors: Sequence[Tensor]) -> bool:
    return all(part.is_floating_point() and part.dtype == tensors[0].dtype for part in tensors)
