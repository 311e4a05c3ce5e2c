"""Activations by name, and the two that torch lacks: LeCun's scaled tanh and the sigmoid with a slope."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.rules import activation as rules
from convscope.rules.base import Rule, rule_for_module


def scaled_tanh(u: torch.Tensor) -> torch.Tensor:
    """f(u) = 1.7159·tanh(2u/3), so that f(±1) = ±1 and |f″| is largest there (LeCun 1998, appendix A)."""
    return 1.7159 * torch.tanh(u * (2.0 / 3.0))


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


@rule_for_module(ScaledTanh)
def _(module: ScaledTanh, x: torch.Tensor) -> Rule:
    return rules.ScaledTanh()


@rule_for_module(ScaledSigmoid)
def _(module: ScaledSigmoid, x: torch.Tensor) -> Rule:
    return rules.Sigmoid(module.beta)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
    "relu": nn.ReLU,
    "linear": nn.Identity,
}

ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": scaled_tanh,
    "relu": torch.relu,
    "linear": lambda u: u,
}


def activation(name: str) -> nn.Module:
    """A fresh activation module by name; UnknownNameError with close matches for any other name."""
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
