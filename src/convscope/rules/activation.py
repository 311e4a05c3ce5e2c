"""Non-linearities y = f(u), element by element, each with its derivative."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import Any, ClassVar

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


class Activation(Rule):
    """x = f(u),   δ_u = δ_x · f′(u)   element by element; Xue 2016, eq. (2)(13)(16).

    A subclass gives ``value`` = f and ``slope`` = f′, the latter from what ``needs`` names: "x" (the input u) or "y".
    """

    kind = "activation"
    needs: ClassVar[tuple[str, ...]] = ("x",)

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """f(x)."""

    @abstractmethod
    def slope(self, saved: Tensor) -> Tensor:
        """f′ from the saved x or y."""

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        y = self.value(x)
        return y, {"y": y} if self.needs == ("y",) else {"x": x}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta * self.slope(saved[self.needs[0]]),), {}

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return inputs[0], None if delta is None else self.backward(saved, delta)[0][0]


@dataclasses.dataclass(frozen=True)
class Linear(Activation):
    """f(u) = u,   f′ = 1."""

    needs = ("x",)

    def value(self, x: Tensor) -> Tensor:
        return x

    def slope(self, saved: Tensor) -> Tensor:
        return torch.ones_like(saved)


@dataclasses.dataclass(frozen=True)
class Sigmoid(Activation):
    """f(u) = 1/(1 + e^(−βu)),   f′ = β·y·(1 − y).   Bouvrie 2006, below eq. (3); Xue 2016, on activations."""

    needs = ("y",)
    beta: float = 1.0

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * x)

    def slope(self, saved: Tensor) -> Tensor:
        return self.beta * saved * (1 - saved)


@dataclasses.dataclass(frozen=True)
class Tanh(Activation):
    """f(u) = tanh u,   f′ = 1 − y²."""

    needs = ("y",)

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def slope(self, saved: Tensor) -> Tensor:
        return 1 - saved * saved


@dataclasses.dataclass(frozen=True)
class ScaledTanh(Activation):
    """f(u) = a·tanh(b·u),   f′ = (b/a)·(a² − y²) = a·b·(1 − tanh²(bu));   a = 1.7159, b = 2/3 give f(±1) = ±1.

    LeCun et al. 1998, appendix A; Bouvrie 2006, below eq. (3).
    """

    needs = ("y",)
    a: float = 1.7159
    b: float = 2 / 3

    def value(self, x: Tensor) -> Tensor:
        return self.a * torch.tanh(self.b * x)

    def slope(self, saved: Tensor) -> Tensor:
        return (self.b / self.a) * (self.a * self.a - saved * saved)


@dataclasses.dataclass(frozen=True)
class ReLU(Activation):
    """f(u) = max(0, u),   f′ = 1 where u > 0, else 0.   Xue 2016, on AlexNet."""

    needs = ("y",)

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def slope(self, saved: Tensor) -> Tensor:
        return (saved > 0).to(saved.dtype)


@dataclasses.dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(u) = u where u > 0, else a·u,   f′ = 1 or a;   a = ``negative_slope``."""

    negative_slope: float = 0.01

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.negative_slope * x)

    def slope(self, saved: Tensor) -> Tensor:
        return torch.where(saved > 0, torch.ones_like(saved), torch.full_like(saved, self.negative_slope))


@dataclasses.dataclass(frozen=True)
class HardTanh(Activation):
    """f(u) = min(max(u, lowest), highest),   f′ = 1 strictly between, else 0; ReLU6 has 0 and 6."""

    lowest: float = -1.0
    highest: float = 1.0

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(self.lowest, self.highest)

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved > self.lowest) & (saved < self.highest)).to(saved.dtype)


@dataclasses.dataclass(frozen=True)
class ELU(Activation):
    """f(u) = u where u > 0, else α·(e^u − 1),   f′ = 1, or α·e^u."""

    alpha: float = 1.0

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))

    def slope(self, saved: Tensor) -> Tensor:
        return torch.where(saved > 0, torch.ones_like(saved), self.alpha * torch.exp(saved.clamp(max=0)))


@dataclasses.dataclass(frozen=True)
class GELU(Activation):
    """f(u) = u·Φ(u),   f′ = Φ(u) + u·φ(u);   Φ, φ: the standard normal distribution and density.

    With ``tanh_form``: f(u) = ½u·(1 + tanh v), v = √(2/π)·(u + 0.044715u³),
    f′ = ½(1 + tanh v) + ½u·(1 − tanh² v)·√(2/π)·(1 + 0.134145u²).
    """

    tanh_form: bool = False

    def value(self, x: Tensor) -> Tensor:
        return x * self._gate(x)

    def slope(self, saved: Tensor) -> Tensor:
        gate = self._gate(saved)
        if self.tanh_form:
            gate_slope = 2 * gate * (1 - gate) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * saved**2)
        else:
            gate_slope = torch.exp(-0.5 * saved**2) / math.sqrt(2 * math.pi)
        return gate + saved * gate_slope

    def _gate(self, x: Tensor) -> Tensor:
        if self.tanh_form:
            return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


@dataclasses.dataclass(frozen=True)
class SiLU(Activation):
    """f(u) = u·σ(u),   f′ = σ(u)·(1 + u·(1 − σ(u)))."""

    def value(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def slope(self, saved: Tensor) -> Tensor:
        gate = torch.sigmoid(saved)
        return gate * (1 + saved * (1 - gate))


@dataclasses.dataclass(frozen=True)
class HardSigmoid(Activation):
    """f(u) = min(max(u + 3, 0), 6)/6,   f′ = 1/6 for −3 < u < 3, else 0."""

    def value(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) / 6

    def slope(self, saved: Tensor) -> Tensor:
        return ((saved > -3) & (saved < 3)).to(saved.dtype) / 6


@dataclasses.dataclass(frozen=True)
class HardSwish(Activation):
    """f(u) = u·min(max(u + 3, 0), 6)/6,   f′ = 0 for u ≤ −3, 1 for u ≥ 3, (2u + 3)/6 between."""

    def value(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    def slope(self, saved: Tensor) -> Tensor:
        between = (2 * saved + 3) / 6
        return torch.where(
            saved <= -3, torch.zeros_like(saved), torch.where(saved >= 3, torch.ones_like(saved), between)
        )


@dataclasses.dataclass(frozen=True)
class Softplus(Activation):
    """f(u) = ln(1 + e^(βu))/β,   f′ = σ(βu); the identity above βu = ``threshold``, where they agree to rounding."""

    beta: float = 1.0
    threshold: float = 20.0

    def value(self, x: Tensor) -> Tensor:
        scaled = self.beta * x
        soft = torch.log1p(torch.exp(scaled.clamp(max=self.threshold))) / self.beta
        return torch.where(scaled > self.threshold, x, soft)

    def slope(self, saved: Tensor) -> Tensor:
        scaled = self.beta * saved
        return torch.where(scaled > self.threshold, torch.ones_like(saved), torch.sigmoid(scaled))


@rule_for_module(nn.Identity)
def _(module: nn.Identity, x: Tensor) -> Rule | None:
    return Linear() if isinstance(x, Tensor) else None


@rule_for_module(nn.Sigmoid)
def _(module: nn.Sigmoid, x: Tensor) -> Rule:
    return Sigmoid()


@rule_for_module(nn.Tanh)
def _(module: nn.Tanh, x: Tensor) -> Rule:
    return Tanh()


@rule_for_module(nn.ReLU)
def _(module: nn.ReLU, x: Tensor) -> Rule:
    return ReLU()


@rule_for_module(nn.LeakyReLU)
def _(module: nn.LeakyReLU, x: Tensor) -> Rule:
    return LeakyReLU(module.negative_slope)


@rule_for_module(nn.ReLU6, nn.Hardtanh)
def _(module: nn.Hardtanh, x: Tensor) -> Rule:
    return HardTanh(module.min_val, module.max_val)


@rule_for_module(nn.ELU)
def _(module: nn.ELU, x: Tensor) -> Rule:
    return ELU(module.alpha)


@rule_for_module(nn.GELU)
def _(module: nn.GELU, x: Tensor) -> Rule:
    return GELU(module.approximate == "tanh")


@rule_for_module(nn.SiLU)
def _(module: nn.SiLU, x: Tensor) -> Rule:
    return SiLU()


@rule_for_module(nn.Hardsigmoid)
def _(module: nn.Hardsigmoid, x: Tensor) -> Rule:
    return HardSigmoid()


@rule_for_module(nn.Hardswish)
def _(module: nn.Hardswish, x: Tensor) -> Rule:
    return HardSwish()


@rule_for_module(nn.Softplus)
def _(module: nn.Softplus, x: Tensor) -> Rule:
    return Softplus(module.beta, module.threshold)


@rule_for_function(F.relu, F.relu_, torch.relu, torch.relu_)
def _(input: Tensor, inplace: bool = False) -> Applied:
    return Applied(ReLU(), (input,))


@rule_for_function(F.sigmoid, torch.sigmoid)
def _(input: Tensor) -> Applied:
    return Applied(Sigmoid(), (input,))


@rule_for_function(F.tanh, torch.tanh)
def _(input: Tensor) -> Applied:
    return Applied(Tanh(), (input,))


@rule_for_function(F.leaky_relu)
def _(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Applied:
    return Applied(LeakyReLU(negative_slope), (input,))


@rule_for_function(F.relu6)
def _(input: Tensor, inplace: bool = False) -> Applied:
    return Applied(HardTanh(0.0, 6.0), (input,))


@rule_for_function(F.elu)
def _(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Applied:
    return Applied(ELU(alpha), (input,))


@rule_for_function(F.gelu)
def _(input: Tensor, approximate: str = "none") -> Applied:
    return Applied(GELU(approximate == "tanh"), (input,))


@rule_for_function(F.silu)
def _(input: Tensor, inplace: bool = False) -> Applied:
    return Applied(SiLU(), (input,))


@rule_for_function(F.hardsigmoid)
def _(input: Tensor, inplace: bool = False) -> Applied:
    return Applied(HardSigmoid(), (input,))


@rule_for_function(F.hardswish)
def _(input: Tensor, inplace: bool = False) -> Applied:
    return Applied(HardSwish(), (input,))


@rule_for_method("relu", "relu_")
def _(self: Tensor) -> Applied:
    return Applied(ReLU(), (self,))


@rule_for_method("sigmoid", "sigmoid_")
def _(self: Tensor) -> Applied:
    return Applied(Sigmoid(), (self,))


@rule_for_method("tanh", "tanh_")
def _(self: Tensor) -> Applied:
    return Applied(Tanh(), (self,))
