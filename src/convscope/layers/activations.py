"""Activations by name, and the two that torch lacks: LeCun's scaled tanh and the sigmoid with a slope."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.rules.activation import ScaledTanh as _ScaledTanhRule
from convscope.rules.elementwise import ELEMENTWISE, Elementwise, Row


def scaled_tanh(u: torch.Tensor) -> torch.Tensor:
    """f(u) = 1.7159·tanh(2u/3), so that f(±1) = ±1 and |f″| is largest there (LeCun 1998, appendix A)."""
    return _ScaledTanhRule.a * torch.tanh(u * _ScaledTanhRule.b)


class ScaledTanh(nn.Module):
    """y = 1.7159·tanh(2x/3), any shape; y′ = 2/3·(1.7159 − y²/1.7159). LeCun et al. 1998, appendix A."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled_tanh(x)


class ScaledSigmoid(nn.Module):
    """y = 1/(1 + e^(−βx)), any shape; y′ = β·y·(1 − y). ``beta`` is a constant slope; 1 is torch's sigmoid.

    Raises ArgumentError unless ``beta`` is a finite number above 0.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not isinstance(beta, int | float) or isinstance(beta, bool) or not math.isfinite(beta) or beta <= 0:
            raise ArgumentError("beta", beta, "a finite number above 0")
        self.beta = float(beta)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.beta * x)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


ELEMENTWISE["scaled_tanh"].bind(modules=[ScaledTanh], functions=[scaled_tanh])
ELEMENTWISE["scaled_sigmoid"].bind(modules=[ScaledSigmoid])


def activation_names() -> list[str]:
    """The element-wise functions that have a module, and whose options all have defaults."""
    return [name for name in ELEMENTWISE if _has_module(ELEMENTWISE[name])]


def activation(name: str) -> nn.Module:
    """A fresh activation module by name; UnknownNameError with close matches for any other name."""
    return _row(name).modules[0]()


def activation_rule(name: str) -> Elementwise:
    """The rule of an activation by name, as ``activation`` makes it; UnknownNameError for any other name."""
    return _row(name).rule()


def _row(name: str) -> Row:
    if name not in ELEMENTWISE or not _has_module(ELEMENTWISE[name]):
        raise UnknownNameError("activation", name, activation_names())
    return ELEMENTWISE[name]


def _has_module(row: Row) -> bool:
    return bool(row.modules) and dataclasses.MISSING not in row.options.values()
