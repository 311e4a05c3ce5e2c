"""Trainable subsampling, the pooling layer of LeNet-5 and of Bouvrie's notes."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.activation import Linear
from convscope.rules.base import Deltas, Gradients, Rule, Saved
from convscope.rules.elementwise import Elementwise
from convscope.rules.pool import SumPool


@dataclasses.dataclass(frozen=True)
class Subsample(Rule):
    """y_j = f(u_j),   u_j = β_j·down(x_j) + b_j   with down(x) = Σ x over each window

        δ_u = δ_y·f′(u),   δ_x = up(β_j·δ_u),   ∂J/∂β_j = Σ δ_u·down(x_j),   ∂J/∂b_j = Σ δ_u

    Xue 2016, eq. (3)(21)–(23); Bouvrie 2006, section 3.2; LeCun et al. 1998, layers S2 and S4. up gives each element of
    a window the window's δ. β (``weight``) and b (``bias``) are one number for each map. ``activation`` is f's rule.
    """

    kind = "subsample"
    needs = ("down", "pooled", "weight", "f")
    parameters = ("weight", "bias")

    kernel_size: Any
    stride: Any = None
    activation: Elementwise = dataclasses.field(default_factory=Linear)
    dims: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pool", SumPool(self.dims, self.kernel_size, self.stride))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Saved]:
        if x.ndim != self.dims + 2 or x.shape[1] != len(weight):
            raise ArgumentError("x", tuple(x.shape), f"(n, {len(weight)} channels, {self.dims} spatial sizes)")
        down, pooled = self._pool.forward(x)
        u = self._maps(weight) * down + self._maps(bias)
        y, f = self.activation.forward(u)
        return y, {"down": down, "pooled": pooled, "weight": weight, "f": {**f, "u": u}}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        delta_u = self._delta_u(saved, delta)
        over = (0, *range(2, delta.ndim))
        gradients = {"weight": (delta_u * saved["down"]).sum(over), "bias": delta_u.sum(over)}
        deltas, _ = self._pool.backward(saved["pooled"], self._maps(saved["weight"]) * delta_u)
        return deltas, gradients

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return saved["f"]["u"], None if delta is None else self._delta_u(saved, delta)

    def _delta_u(self, saved: Saved, delta: Tensor) -> Tensor:
        found = self.activation.backward(saved["f"], delta)[0][0]
        assert found is not None
        return found

    def _maps(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *(1,) * self.dims)

    _pool: SumPool = dataclasses.field(init=False, repr=False, compare=False, default=SumPool(1, 1))
