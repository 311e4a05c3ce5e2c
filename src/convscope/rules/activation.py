"""Saturating and smooth activations y = f(u), element by element, each with its derivative."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.elementwise import Elementwise, Stage, affine, elementwise, stage


@elementwise("linear", called=(), modules=[nn.Identity])
@dataclasses.dataclass(frozen=True)
class Linear(Elementwise):
    """f(u) = u,   f′ = 1."""

    def f(self, x: Tensor) -> Tensor:
        return x

    def slope(self, saved: Tensor) -> Tensor:
        return torch.ones_like(saved)

    def engine(self) -> tuple[Stage, ...]:
        return ()


@elementwise("sigmoid", called=("sigmoid", "expit"), modules=[nn.Sigmoid])
@dataclasses.dataclass(frozen=True)
class Sigmoid(Elementwise):
    """f(u) = 1/(1 + e^(−u)),   f′ = y·(1 − y).   Bouvrie 2006, below eq. (3); Xue 2016, on activations."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def slope(self, saved: Tensor) -> Tensor:
        return saved * (1 - saved)

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("sigmoid"),)


@elementwise("scaled_sigmoid")
@dataclasses.dataclass(frozen=True)
class ScaledSigmoid(Elementwise):
    """f(u) = 1/(1 + e^(−βu)),   f′ = β·y·(1 − y).   Xue 2016, on activations: the slope β as a constant."""

    needs = ("y",)
    beta: float = 1.0

    def f(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * x)

    def slope(self, saved: Tensor) -> Tensor:
        return self.beta * saved * (1 - saved)

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("sigmoid", slope=self.beta),)


@elementwise("tanh", modules=[nn.Tanh])
@dataclasses.dataclass(frozen=True)
class Tanh(Elementwise):
    """f(u) = tanh u,   f′ = 1 − y²."""

    needs = ("y",)

    def f(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def slope(self, saved: Tensor) -> Tensor:
        return 1 - saved * saved

    def limits(self) -> tuple[float, float]:
        return -1.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("tanh"),)


@elementwise("scaled_tanh")
@dataclasses.dataclass(frozen=True)
class ScaledTanh(Elementwise):
    """f(u) = a·tanh(b·u),   f′ = (b/a)·(a² − y²) = a·b·(1 − tanh²(bu));   a = 1.7159, b = 2/3 give f(±1) = ±1.

    LeCun et al. 1998, appendix A; Bouvrie 2006, below eq. (3).
    """

    needs = ("y",)
    a: ClassVar[float] = 1.7159
    b: ClassVar[float] = 2 / 3

    def f(self, x: Tensor) -> Tensor:
        return self.a * torch.tanh(self.b * x)

    def slope(self, saved: Tensor) -> Tensor:
        return (self.b / self.a) * (self.a * self.a - saved * saved)

    def limits(self) -> tuple[float, float]:
        return -self.a, self.a

    def engine(self) -> tuple[Stage, ...]:
        return (stage("scaled_tanh"),)


@elementwise("softsign", modules=[nn.Softsign])
@dataclasses.dataclass(frozen=True)
class Softsign(Elementwise):
    """f(u) = u/(1 + |u|),   f′ = 1/(1 + |u|)²."""

    def f(self, x: Tensor) -> Tensor:
        return x / (1 + x.abs())

    def slope(self, saved: Tensor) -> Tensor:
        return (1 + saved.abs()) ** -2

    def limits(self) -> tuple[float, float]:
        return -1.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("soft_sign"),)


@elementwise("hardtanh", modules=[nn.Hardtanh])
@dataclasses.dataclass(frozen=True)
class HardTanh(Elementwise):
    """f(u) = min(max(u, min_val), max_val),   f′ = 1 strictly between, else 0."""

    min_val: float = -1.0
    max_val: float = 1.0

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(self.min_val, self.max_val)

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved > self.min_val) & (saved < self.max_val)).to(saved.dtype)

    def limits(self) -> tuple[float, float]:
        return self.min_val, self.max_val

    def engine(self) -> tuple[Stage, ...]:
        return (stage("hard_tanh", low=self.min_val, high=self.max_val),)


@elementwise("hardsigmoid", modules=[nn.Hardsigmoid])
@dataclasses.dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """f(u) = min(max(u + 3, 0), 6)/6,   f′ = 1/6 for −3 < u < 3, else 0."""

    def f(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) / 6

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved > -3) & (saved < 3)).to(saved.dtype) / 6

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def engine(self) -> tuple[Stage, ...]:
        return affine(1, 3), stage("relu6"), affine(1 / 6)


@elementwise("logsigmoid", called=("logsigmoid", "log_sigmoid"), modules=[nn.LogSigmoid])
@dataclasses.dataclass(frozen=True)
class LogSigmoid(Elementwise):
    """f(u) = −ln(1 + e^(−u)),   f′ = σ(−u)."""

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))

    def slope(self, saved: Tensor) -> Tensor:
        return torch.sigmoid(-saved)

    def engine(self) -> tuple[Stage, ...]:
        return affine(-1), stage("softplus"), affine(-1)


@elementwise("softplus", modules=[nn.Softplus])
@dataclasses.dataclass(frozen=True)
class Softplus(Elementwise):
    """f(u) = ln(1 + e^(βu))/β,   f′ = σ(βu); the identity above βu = ``threshold``, where they agree to rounding."""

    beta: float = 1.0
    threshold: float = 20.0

    def f(self, x: Tensor) -> Tensor:
        scaled = self.beta * x
        soft = torch.log1p(torch.exp(scaled.clamp(max=self.threshold))) / self.beta
        return torch.where(scaled > self.threshold, x, soft)

    def slope(self, saved: Tensor) -> Tensor:
        scaled = self.beta * saved
        return torch.where(scaled > self.threshold, torch.ones_like(saved), torch.sigmoid(scaled))

    def engine(self) -> tuple[Stage, ...] | str:
        """Beyond a threshold of 20 torch's straight line is the same number in float32."""
        if self.threshold < 20:
            return f"threshold={self.threshold:g}, the engine's softplus has no straight part below 20"
        if self.beta == 1:
            return (stage("softplus"),)
        return affine(self.beta), stage("softplus"), affine(1 / self.beta)


@elementwise("gelu", modules=[nn.GELU])
@dataclasses.dataclass(frozen=True)
class GELU(Elementwise):
    """f(u) = u·Φ(u),   f′ = Φ(u) + u·φ(u);   Φ, φ: the standard normal distribution and density.

    With ``approximate`` "tanh": f(u) = ½u·(1 + tanh v), v = √(2/π)·(u + 0.044715u³),
    f′ = ½(1 + tanh v) + ½u·(1 − tanh² v)·√(2/π)·(1 + 0.134145u²).
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ArgumentError("approximate", self.approximate, '"none" or "tanh"')

    def f(self, x: Tensor) -> Tensor:
        return x * self._gate(x)

    def slope(self, saved: Tensor) -> Tensor:
        gate = self._gate(saved)
        if self.approximate == "tanh":
            gate_slope = 2 * gate * (1 - gate) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * saved**2)
        else:
            gate_slope = torch.exp(-0.5 * saved**2) / math.sqrt(2 * math.pi)
        return gate + saved * gate_slope

    def _gate(self, x: Tensor) -> Tensor:
        if self.approximate == "tanh":
            return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * torch.erfc(x / -math.sqrt(2))  # 1 + erf would cancel far below 0

    def engine(self) -> tuple[Stage, ...]:
        return (stage("gelu_tanh" if self.approximate == "tanh" else "gelu"),)


@elementwise("silu", modules=[nn.SiLU])
@dataclasses.dataclass(frozen=True)
class SiLU(Elementwise):
    """f(u) = u·σ(u),   f′ = σ(u)·(1 + u·(1 − σ(u)))."""

    def f(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def slope(self, saved: Tensor) -> Tensor:
        gate = torch.sigmoid(saved)
        return gate * (1 + saved * (1 - gate))

    def engine(self) -> tuple[Stage, ...]:
        return (stage("silu"),)


@elementwise("mish", modules=[nn.Mish])
@dataclasses.dataclass(frozen=True)
class Mish(Elementwise):
    """f(u) = u·t,   f′ = t + u·(1 − t²)·σ(u);   t = tanh ln(1 + e^u)."""

    def f(self, x: Tensor) -> Tensor:
        return x * self._gate(x)

    def slope(self, saved: Tensor) -> Tensor:
        gate = self._gate(saved)
        return gate + saved * (1 - gate * gate) * torch.sigmoid(saved)

    def _gate(self, x: Tensor) -> Tensor:
        return torch.tanh(x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())))

    def engine(self) -> tuple[Stage, ...]:
        return (stage("mish"),)


@elementwise("hardswish", modules=[nn.Hardswish])
@dataclasses.dataclass(frozen=True)
class HardSwish(Elementwise):
    """f(u) = u·min(max(u + 3, 0), 6)/6,   f′ = 0 for u ≤ −3, 1 for u ≥ 3, (2u + 3)/6 between."""

    def f(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    def slope(self, saved: Tensor) -> Tensor:
        between = (2 * saved + 3) / 6
        return torch.where(
            saved <= -3, torch.zeros_like(saved), torch.where(saved >= 3, torch.ones_like(saved), between)
        )

    def engine(self) -> tuple[Stage, ...]:
        return (stage("hard_swish"),)


@elementwise("tanhshrink", modules=[nn.Tanhshrink])
@dataclasses.dataclass(frozen=True)
class Tanhshrink(Elementwise):
    """f(u) = u − tanh u,   f′ = tanh² u."""

    def f(self, x: Tensor) -> Tensor:
        return x - torch.tanh(x)

    def slope(self, saved: Tensor) -> Tensor:
        return torch.tanh(saved) ** 2

    def engine(self) -> tuple[Stage, ...]:
        return (stage("tanh_shrink"),)
