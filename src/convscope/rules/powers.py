"""Signs, powers, roots, exponentials and logarithms: y = f(u), element by element, with its derivative."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from convscope.rules.elementwise import Elementwise, Stage, affine, elementwise, stage


@elementwise("neg", called=("neg", "negative"))
@dataclasses.dataclass(frozen=True)
class Negative(Elementwise):
    """f(u) = −u,   f′ = −1."""

    def f(self, x: Tensor) -> Tensor:
        return -x

    def slope(self, saved: Tensor) -> Tensor:
        return -torch.ones_like(saved)

    def engine(self) -> tuple[Stage, ...]:
        return (affine(-1),)


@elementwise("abs", called=("abs", "absolute"))
@dataclasses.dataclass(frozen=True)
class Absolute(Elementwise):
    """f(u) = |u|,   f′ = sign u, 0 at 0."""

    def f(self, x: Tensor) -> Tensor:
        return x.abs()

    def slope(self, saved: Tensor) -> Tensor:
        return saved.sign()

    def engine(self) -> tuple[Stage, ...]:
        return (stage("absolute"),)


@elementwise("square")
@dataclasses.dataclass(frozen=True)
class Square(Elementwise):
    """f(u) = u²,   f′ = 2u."""

    def f(self, x: Tensor) -> Tensor:
        return x * x

    def slope(self, saved: Tensor) -> Tensor:
        return 2 * saved

    def engine(self) -> tuple[Stage, ...]:
        return (stage("power", exponent=2),)


@elementwise("pow")
@dataclasses.dataclass(frozen=True)
class Power(Elementwise):
    """f(u) = u^n,   f′ = n·u^(n−1), 0 for n = 0;   n = ``exponent``, a plain number."""

    exponent: float

    def f(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def slope(self, saved: Tensor) -> Tensor:
        if self.exponent == 0:  # u^(−1) is infinite at 0, 0 times it no number
            return torch.zeros_like(saved)
        return self.exponent * saved ** (self.exponent - 1)

    def engine(self) -> tuple[Stage, ...]:
        return (stage("power", exponent=self.exponent),)


@elementwise("sqrt")
@dataclasses.dataclass(frozen=True)
class Root(Elementwise):
    """f(u) = √u,   f′ = 1/(2y)."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.sqrt()

    def slope(self, saved: Tensor) -> Tensor:
        return 0.5 / saved

    def engine(self) -> tuple[Stage, ...]:
        return (stage("square_root"),)


@elementwise("rsqrt")
@dataclasses.dataclass(frozen=True)
class ReciprocalRoot(Elementwise):
    """f(u) = 1/√u,   f′ = −½·y³."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.rsqrt()

    def slope(self, saved: Tensor) -> Tensor:
        return -0.5 * saved**3

    def engine(self) -> tuple[Stage, ...]:
        return (stage("inverse_root"),)


@elementwise("reciprocal")
@dataclasses.dataclass(frozen=True)
class Reciprocal(Elementwise):
    """f(u) = 1/u,   f′ = −y²."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.reciprocal()

    def slope(self, saved: Tensor) -> Tensor:
        return -saved * saved

    def engine(self) -> tuple[Stage, ...]:
        return (stage("reciprocal"),)


@elementwise("exp")
@dataclasses.dataclass(frozen=True)
class Exponential(Elementwise):
    """f(u) = e^u,   f′ = y."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.exp()

    def slope(self, saved: Tensor) -> Tensor:
        return saved

    def engine(self) -> tuple[Stage, ...]:
        return (stage("exponential"),)


@elementwise("exp2")
@dataclasses.dataclass(frozen=True)
class PowerOfTwo(Elementwise):
    """f(u) = 2^u,   f′ = y·ln 2."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.exp2()

    def slope(self, saved: Tensor) -> Tensor:
        return saved * math.log(2)

    def engine(self) -> tuple[Stage, ...]:
        return affine(math.log(2)), stage("exponential")


@elementwise("expm1")
@dataclasses.dataclass(frozen=True)
class ExponentialLessOne(Elementwise):
    """f(u) = e^u − 1,   f′ = y + 1."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return x.expm1()

    def slope(self, saved: Tensor) -> Tensor:
        return saved + 1


@elementwise("log")
@dataclasses.dataclass(frozen=True)
class Logarithm(Elementwise):
    """f(u) = ln u,   f′ = 1/u."""

    def f(self, x: Tensor) -> Tensor:
        return x.log()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 / saved

    def engine(self) -> tuple[Stage, ...]:
        return (stage("logarithm"),)


@elementwise("log2")
@dataclasses.dataclass(frozen=True)
class BinaryLogarithm(Elementwise):
    """f(u) = log₂ u,   f′ = 1/(u·ln 2)."""

    def f(self, x: Tensor) -> Tensor:
        return x.log2()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 / (saved * math.log(2))

    def engine(self) -> tuple[Stage, ...]:
        return stage("logarithm"), affine(1 / math.log(2))


@elementwise("log10")
@dataclasses.dataclass(frozen=True)
class DecimalLogarithm(Elementwise):
    """f(u) = log₁₀ u,   f′ = 1/(u·ln 10)."""

    def f(self, x: Tensor) -> Tensor:
        return x.log10()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 / (saved * math.log(10))

    def engine(self) -> tuple[Stage, ...]:
        return stage("logarithm"), affine(1 / math.log(10))


@elementwise("log1p")
@dataclasses.dataclass(frozen=True)
class LogarithmOfOneMore(Elementwise):
    """f(u) = ln(1 + u),   f′ = 1/(1 + u)."""

    def f(self, x: Tensor) -> Tensor:
        return x.log1p()

    def slope(self, saved: Tensor) -> Tensor:
        return 1 / (1 + saved)
