"""Circular and hyperbolic functions, the error function, limits and steps: y = f(u), element by element."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.elementwise import Elementwise, Stage, affine, elementwise, stage


@elementwise("sin")
@dataclasses.dataclass(frozen=True)
class Sine(Elementwise):
    """f(u) = sin u,   f′ = cos u."""

    def f(self, x: Tensor) -> Tensor:
        return x.sin()

    def slope(self, saved: Tensor) -> Tensor:
        return saved.cos()


@elementwise("cos")
@dataclasses.dataclass(frozen=True)
class Cosine(Elementwise):
    """f(u) = cos u,   f′ = −sin u."""

    def f(self, x: Tensor) -> Tensor:
        return x.cos()

    def slope(self, saved: Tensor) -> Tensor:
        return -saved.sin()


@elementwise("tan")
@dataclasses.dataclass(frozen=True)
class Tangent(Elementwise):
    """f(u) = tan u,   f′ = 1 + y²."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.tan()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 + saved * saved


@elementwise("atan", called=("atan", "arctan"))
@dataclasses.dataclass(frozen=True)
class Arctangent(Elementwise):
    """f(u) = arctan u,   f′ = 1/(1 + u²)."""

    def f(self, x: Tensor) -> Tensor:
        return x.atan()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 / (1 + saved * saved)

    def limits(self) -> tuple[float, float]:
        return -math.pi / 2, math.pi / 2


@elementwise("sinh")
@dataclasses.dataclass(frozen=True)
class HyperbolicSine(Elementwise):
    """f(u) = sinh u,   f′ = cosh u."""

    def f(self, x: Tensor) -> Tensor:
        return x.sinh()

    def slope(self, saved: Tensor) -> Tensor:
        return saved.cosh()


@elementwise("cosh")
@dataclasses.dataclass(frozen=True)
class HyperbolicCosine(Elementwise):
    """f(u) = cosh u,   f′ = sinh u."""

    def f(self, x: Tensor) -> Tensor:
        return x.cosh()

    def slope(self, saved: Tensor) -> Tensor:
        return saved.sinh()


@elementwise("erf")
@dataclasses.dataclass(frozen=True)
class ErrorFunction(Elementwise):
    """f(u) = erf u,   f′ = 2/√π·e^(−u²)."""

    def f(self, x: Tensor) -> Tensor:
        return x.erf()

    def slope(self, saved: Tensor) -> Tensor:
        return 2 / math.sqrt(math.pi) * torch.exp(-saved * saved)

    def limits(self) -> tuple[float, float]:
        return -1.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("erf"),)


@elementwise("erfc")
@dataclasses.dataclass(frozen=True)
class ComplementaryErrorFunction(Elementwise):
    """f(u) = 1 − erf u,   f′ = −2/√π·e^(−u²)."""

    def f(self, x: Tensor) -> Tensor:
        return x.erfc()

    def slope(self, saved: Tensor) -> Tensor:
        return -2 / math.sqrt(math.pi) * torch.exp(-saved * saved)

    def engine(self) -> tuple[Stage, ...]:
        return stage("erf"), affine(-1, 1)


@elementwise("clamp", called=("clamp", "clip"))
@dataclasses.dataclass(frozen=True)
class Clamp(Elementwise):
    """f(u) = min(max(u, a), b),   f′ = 1 for a ≤ u ≤ b, else 0;   a = ``min``, b = ``max``, either may be left out.

    Unlike the hard tanh's and the ReLU's, f′ is 1 at the bends themselves: torch lets δ through there.
    """

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ArgumentError("min", None, "a number, or one for max")

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(self.min, self.max)

    def slope(self, saved: Tensor) -> Tensor:
        inside = torch.ones_like(saved, dtype=torch.bool)
        if self.min is not None:
            inside &= saved >= self.min
        if self.max is not None:
            inside &= saved <= self.max
        return inside.to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        low = -math.inf if self.min is None else self.min
        return (stage("clamp", low=low, high=math.inf if self.max is None else self.max),)


@elementwise("clamp_min")
@dataclasses.dataclass(frozen=True)
class ClampBelow(Elementwise):
    """f(u) = max(u, a),   f′ = 1 where u ≥ a, else 0;   a = ``min``."""

    min: float

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.min)

    def slope(self, saved: Tensor) -> Tensor:
        return (saved >= self.min).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        return Clamp(self.min, None).engine()


@elementwise("clamp_max")
@dataclasses.dataclass(frozen=True)
class ClampAbove(Elementwise):
    """f(u) = min(u, b),   f′ = 1 where u ≤ b, else 0;   b = ``max``."""

    max: float

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(max=self.max)

    def slope(self, saved: Tensor) -> Tensor:
        return (saved <= self.max).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        return Clamp(None, self.max).engine()


class _Steps(Elementwise):
    """f is constant but for jumps."""

    def slope(self, saved: Tensor) -> Tensor:
        return torch.zeros_like(saved)


@elementwise("sign", called=("sign", "sgn"))
@dataclasses.dataclass(frozen=True)
class Sign(_Steps):
    """f(u) = −1, 0 or 1,   f′ = 0."""

    def f(self, x: Tensor) -> Tensor:
        return x.sign()


@elementwise("floor")
@dataclasses.dataclass(frozen=True)
class Floor(_Steps):
    """f(u) = ⌊u⌋,   f′ = 0."""

    def f(self, x: Tensor) -> Tensor:
        return x.floor()


@elementwise("ceil")
@dataclasses.dataclass(frozen=True)
class Ceiling(_Steps):
    """f(u) = ⌈u⌉,   f′ = 0."""

    def f(self, x: Tensor) -> Tensor:
        return x.ceil()


@elementwise("round")
@dataclasses.dataclass(frozen=True)
class Round(_Steps):
    """f(u) = the nearest whole number, of two the even one,   f′ = 0."""

    def f(self, x: Tensor) -> Tensor:
        return x.round()
