"""Softmax and its logarithm."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
class Softmax(Rule):
    """y_j = e^(u_j) / Σ_k e^(u_k),   δ_u = y·(δ − Σ_k δ_k·y_k)

    The exponents are lowered by the largest first, so that nothing overflows. ``dim`` is the classes' dimension.
    δ is counted from that of the largest y, which changes nothing, as Σ_k y_k = 1, but for y_j near 1: 1 − y_j is then
    made of the others and keeps its digits.
    """

    kind = "softmax"
    needs = ("y",)
    dim: int = -1

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        e = torch.exp(x - x.amax(self.dim, keepdim=True))
        y = e / e.sum(self.dim, keepdim=True)
        return y, {"y": y}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        y = saved["y"]
        delta = delta - delta.gather(self.dim, y.argmax(self.dim, keepdim=True))
        return (y * (delta - (delta * y).sum(self.dim, keepdim=True)),), {}

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return inputs[0], None if delta is None else self.backward(saved, delta)[0][0]


@dataclasses.dataclass(frozen=True)
class LogSoftmax(Rule):
    """y_j = u_j − ln Σ_k e^(u_k),   δ_u = δ − e^y·Σ_k δ_k"""

    kind = "softmax"
    needs = ("y",)
    dim: int = -1

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        lowered = x - x.amax(self.dim, keepdim=True)
        y = lowered - torch.log(torch.exp(lowered).sum(self.dim, keepdim=True))
        return y, {"y": y}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta - torch.exp(saved["y"]) * delta.sum(self.dim, keepdim=True),), {}

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return inputs[0], None if delta is None else self.backward(saved, delta)[0][0]


def _default_dim(x: Tensor, dim: int | None) -> int:
    """torch's choice where no dimension is named: the first for 0, 1 or 3 dimensions, else the second."""
    return dim if dim is not None else (0 if x.ndim in (0, 1, 3) else 1)


@rule_for_module(nn.Softmax)
def _(module: nn.Softmax, x: Tensor) -> Rule:
    return Softmax(_default_dim(x, module.dim))


@rule_for_module(nn.LogSoftmax)
def _(module: nn.LogSoftmax, x: Tensor) -> Rule:
    return LogSoftmax(_default_dim(x, module.dim))


@rule_for_function(F.softmax)
def _(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Applied | None:
    # a captured call has every argument, also those that were left out
    return Applied(Softmax(_default_dim(input, dim)), (input,)) if dtype is None else None


@rule_for_function(F.log_softmax)
def _(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Applied | None:
    # a captured call has every argument, also those that were left out
    return Applied(LogSoftmax(_default_dim(input, dim)), (input,)) if dtype is None else None


@rule_for_function(torch.softmax)
def _(input: Tensor, dim: int) -> Applied:
    return Applied(Softmax(dim), (input,))


@rule_for_function(torch.log_softmax)
def _(input: Tensor, dim: int) -> Applied:
    return Applied(LogSoftmax(dim), (input,))


@rule_for_method("softmax")
def _(self: Tensor, dim: int) -> Applied:
    return Applied(Softmax(dim), (self,))


@rule_for_method("log_softmax")
def _(self: Tensor, dim: int) -> Applied:
    return Applied(LogSoftmax(dim), (self,))
