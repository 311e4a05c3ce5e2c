"""Functions of single numbers, each between layers that take part in the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.native.parts import MAPS, ONE, Case, conv, function, sequence
from torch import Tensor, nn
from torch.nn import functional as F

_POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "reciprocal": torch.reciprocal,
    "power": lambda x: x**1.7,
    "inverse cube": lambda x: x.pow(-3),
}

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "hardshrink": lambda x: F.hardshrink(x, 0.3),
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "threshold": lambda x: F.threshold(x, 0.1, -0.4),
    "abs": torch.abs,
    "square": torch.square,
    "cube": lambda x: x**3,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "clip": lambda x: x.clip(-0.3),
    "clamp above": lambda x: x.clamp(max=0.2),
}


class PositiveOf(nn.Module):
    """A function of numbers above 0.2, after a layer that takes part in the gradient."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x).square() + 0.2)


ELEMENTWISE: dict[str, Case] = {
    **{name: (function(lambda s, x, f=f: f(s.a(x) * 3), a=conv(3, 4, 2)), MAPS) for name, f in _FUNCTIONS.items()},  # type: ignore[misc]
    **{name: ((lambda f=f: PositiveOf(f)), MAPS) for name, f in _POSITIVE.items()},  # type: ignore[misc]
    "prelu": (sequence(conv(3, 4, 2), lambda: nn.PReLU(4)), MAPS),
    "prelu of one": (sequence(nn.Flatten, lambda: nn.Linear(30, 4), nn.PReLU), ONE),
}
