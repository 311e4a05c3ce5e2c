"""Rectifiers and their kin: activations y = f(u) with a bend at 0 or beside it, each with its derivative."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from convscope.rules.elementwise import Elementwise, Stage, affine, elementwise, stage


@elementwise("relu", modules=[nn.ReLU])
@dataclasses.dataclass(frozen=True)
class ReLU(Elementwise):
    """f(u) = max(0, u),   f′ = 1 where u > 0, else 0.   Xue 2016, on AlexNet."""

    needs = ("y",)
    rectifies = True

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def slope(self, saved: Tensor) -> Tensor:
        return (saved > 0).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        return (stage("relu"),)


@elementwise("relu6", modules=[nn.ReLU6])
@dataclasses.dataclass(frozen=True)
class ReLU6(Elementwise):
    """f(u) = min(max(0, u), 6),   f′ = 1 for 0 < u < 6, else 0."""

    needs = ("y",)
    rectifies = True

    def f(self, x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved > 0) & (saved < 6)).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        return (stage("relu6"),)


@elementwise("leaky_relu", modules=[nn.LeakyReLU])
@dataclasses.dataclass(frozen=True)
class LeakyReLU(Elementwise):
    """f(u) = u where u > 0, else a·u,   f′ = 1 or a;   a = ``negative_slope``."""

    negative_slope: float = 0.01

    def f(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.negative_slope * x)

    def slope(self, saved: Tensor) -> Tensor:
        return torch.where(saved > 0, torch.ones_like(saved), torch.full_like(saved, self.negative_slope))

    def engine(self) -> tuple[Stage, ...]:
        return (stage("leaky_relu", negative_slope=self.negative_slope),)


@elementwise("elu", modules=[nn.ELU])
@dataclasses.dataclass(frozen=True)
class ELU(Elementwise):
    """f(u) = u where u > 0, else α·(e^u − 1),   f′ = 1, or α·e^u."""

    alpha: float = 1.0

    def f(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))

    def slope(self, saved: Tensor) -> Tensor:
        return torch.where(saved > 0, torch.ones_like(saved), self.alpha * torch.exp(saved.clamp(max=0)))

    def engine(self) -> tuple[Stage, ...]:
        return (stage("elu", alpha=self.alpha),)


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@elementwise("selu", modules=[nn.SELU])
@dataclasses.dataclass(frozen=True)
class SELU(Elementwise):
    """f(u) = λu where u > 0, else λα·(e^u − 1),   f′ = λ, or λα·e^u;   α = 1.67326…, λ = 1.05070….

    Klambauer et al. 2017: with these constants mean and variance stay what they are from layer to layer.
    """

    def f(self, x: Tensor) -> Tensor:
        alpha, scale = _SELU
        return scale * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))

    def slope(self, saved: Tensor) -> Tensor:
        alpha, scale = _SELU
        return scale * torch.where(saved > 0, torch.ones_like(saved), alpha * torch.exp(saved.clamp(max=0)))

    def engine(self) -> tuple[Stage, ...]:
        alpha, scale = _SELU
        return stage("elu", alpha=alpha), affine(scale)


@elementwise("celu", modules=[nn.CELU])
@dataclasses.dataclass(frozen=True)
class CELU(Elementwise):
    """f(u) = u where u > 0, else α·(e^(u/α) − 1),   f′ = 1, or e^(u/α)."""

    alpha: float = 1.0

    def f(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0) / self.alpha))

    def slope(self, saved: Tensor) -> Tensor:
        return torch.where(saved > 0, torch.ones_like(saved), torch.exp(saved.clamp(max=0) / self.alpha))

    def engine(self) -> tuple[Stage, ...] | str:
        if self.alpha <= 0:
            return f"alpha={self.alpha:g}, the engine's ELU needs one above 0"
        return affine(1 / self.alpha), stage("elu", alpha=1), affine(self.alpha)


@elementwise("threshold", modules=[nn.Threshold])
@dataclasses.dataclass(frozen=True)
class Threshold(Elementwise):
    """f(u) = u where u > t, else v,   f′ = 1 where u > t, else 0;   t = ``threshold``, v = ``value``."""

    threshold: float
    value: float

    def f(self, x: Tensor) -> Tensor:
        return torch.where(x <= self.threshold, torch.full_like(x, self.value), x)

    def slope(self, saved: Tensor) -> Tensor:
        return (saved > self.threshold).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        if (self.threshold, self.value) == (0, 0):
            return (stage("relu"),)
        return (stage("threshold", threshold=self.threshold, value=self.value),)


@elementwise("hardshrink", modules=[nn.Hardshrink])
@dataclasses.dataclass(frozen=True)
class Hardshrink(Elementwise):
    """f(u) = u where |u| > λ, else 0,   f′ = 1 or 0;   λ = ``lambd``."""

    lambd: float = 0.5

    def f(self, x: Tensor) -> Tensor:
        return torch.where(self._inside(x), torch.zeros_like(x), x)

    def slope(self, saved: Tensor) -> Tensor:
        return (~self._inside(saved)).to(saved.dtype)

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= -self.lambd) & (x <= self.lambd)

    def engine(self) -> tuple[Stage, ...]:
        return (stage("hard_shrink", **{"lambda": self.lambd}),)


@elementwise("softshrink", modules=[nn.Softshrink])
@dataclasses.dataclass(frozen=True)
class Softshrink(Elementwise):
    """f(u) = u − λ where u > λ, u + λ where u < −λ, else 0,   f′ = 1 or 0;   λ = ``lambd``."""

    lambd: float = 0.5

    def f(self, x: Tensor) -> Tensor:
        return x - x.clamp(-self.lambd, self.lambd)

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved < -self.lambd) | (saved > self.lambd)).to(saved.dtype)

    def engine(self) -> tuple[Stage, ...]:
        return (stage("soft_shrink", **{"lambda": self.lambd}),)
