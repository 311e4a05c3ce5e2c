"""Padding a map at its edges: with a constant, mirrored, repeated or wrapped round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module
from convscope.rules.windows import Edges, pad, unpad

MODES = ("zeros", "constant", "reflect", "replicate", "circular")


@dataclasses.dataclass(frozen=True)
class Pad(Rule):
    """y = x framed by ``edges``, (before, after) for each of its last dimensions;   δ_x = the adjoint

    "constant" (or "zeros") drops the frame's δ; in the modes that copy from x, "reflect", "replicate" and "circular",
    each framed position adds its δ to the position that it was copied from.
    """

    kind = "reshape"
    needs = ("size",)
    edges: Edges
    mode: str = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ArgumentError("mode", self.mode, f"one of {', '.join(MODES)}")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        return pad_by(x, self.edges, self.mode, self.value), {"size": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (unpad_by(delta, self.edges, self.mode),), {}


def pad_by(x: Tensor, edges: Edges, mode: str, value: float = 0.0) -> Tensor:
    """x framed as ``Pad`` says."""
    if mode in ("zeros", "constant"):
        return pad(x, edges, value)
    for dim, (before, after) in zip(range(-len(edges), 0), edges, strict=True):
        x = x.index_select(dim, _source(x.shape[dim], before, after, mode).to(x.device))
    return x


def unpad_by(delta: Tensor, edges: Edges, mode: str) -> Tensor:
    """The adjoint of ``pad_by``."""
    if mode in ("zeros", "constant"):
        return unpad(delta, edges)
    for dim, (before, after) in zip(range(-len(edges), 0), edges, strict=True):
        size = delta.shape[dim] - before - after
        shape = list(delta.shape)
        shape[dim] = size
        source = _source(size, before, after, mode).to(delta.device)
        delta = delta.new_zeros(shape).index_add(dim, source, delta)
    return delta


def _source(size: int, before: int, after: int, mode: str) -> Tensor:
    """For each position of the framed dimension, which position of x it is copied from."""
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    limit = size if mode == "circular" else size - 1
    if max(before, after) > limit:
        raise ArgumentError("padding", (before, after), f"at most {limit} on a map of size {size}, for mode {mode}")
    if mode == "circular":
        return places % size
    return (size - 1) - (places.abs() - (size - 1)).abs()


def edges_of(padding: Sequence[int]) -> Edges:
    """torch's order, last dimension first: (left, right, top, bottom, …) → ((top, bottom), (left, right))."""
    pairs = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)]
    return tuple(reversed(pairs))


@rule_for_function(F.pad)
def _(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Applied:
    return Applied(Pad(edges_of([int(p) for p in pad]), mode, value or 0.0), (input,))


def _bind_modules(mode: str, *classes: type[Any]) -> None:
    @rule_for_module(*classes)
    def _(module: Any, x: Tensor) -> Rule:
        return Pad(edges_of(module.padding), mode, getattr(module, "value", 0.0))


_bind_modules("constant", nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_bind_modules("constant", nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_bind_modules("reflect", nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d)
_bind_modules("replicate", nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d)
_bind_modules("circular", nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d)
