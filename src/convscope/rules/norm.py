"""Normalisation: local response, batch, layer, group and instance normalisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm(Rule):
    """b_i = a_i / s_i^β,   s_i = k + (α/n)·Σ_{j near i} a_j²   over n neighbouring channels

        δ_a_i = δ_i / s_i^β − 2β·(α/n)·a_i·Σ_{j that i is near} δ_j·a_j / s_j^(β+1)

    Xue 2016, eq. (28), after Krizhevsky et al. 2012. As in torch α is divided by n = ``size``, so the paper's α = 1e-4
    with n = 5 is ``alpha=5e-4`` here. Channel i sees the ⌊n/2⌋ before it and the ⌊(n−1)/2⌋ after it.
    """

    kind = "norm"
    needs = ("x", "s")
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ArgumentError("size", self.size, "a number of channels ≥ 1")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        s = self.k + self.alpha / self.size * self._neighbours(x * x, self.size // 2)
        return x * s**-self.beta, {"x": x, "s": s}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        x, s = saved["x"], saved["s"]
        scaled = delta * s**-self.beta
        rivals = self._neighbours(scaled * x / s, (self.size - 1) // 2)  # who sees i: the mirrored neighbourhood
        return (scaled - 2 * self.beta * self.alpha / self.size * x * rivals,), {}

    def _neighbours(self, x: Tensor, before: int) -> Tensor:
        """Sum over the channels from i − before to i − before + size − 1, those that exist."""
        channels = x.shape[1]
        total = torch.zeros_like(x)
        for offset in range(-before, self.size - before):
            low, high = max(0, -offset), min(channels, channels - offset)
            if low < high:
                total[:, low:high] += x[:, low + offset : high + offset]
        return total


@dataclasses.dataclass(frozen=True)
class BatchNorm(Rule):
    """y = γ·x̂ + β,   x̂ = (x − μ)/√(σ² + ε)   for each channel, μ and σ² over the batch and all positions

        δ_x = γ/√(σ² + ε)·(δ − mean δ − x̂·mean(δ·x̂)),   ∂J/∂γ = Σ δ·x̂,   ∂J/∂β = Σ δ

    Ioffe and Szegedy 2015. In evaluation (``training`` false) μ and σ² are the running statistics, constants, and
    δ_x = γ·δ/√(σ² + ε). In training they move on, running ← (1 − m)·running + m·batch, with the unbiased variance;
    m = ``momentum``, or with None 1/(number of batches so far), their plain mean.
    """

    kind = "norm"
    needs = ("normalised", "scale", "weight", "has_bias", "constant")
    parameters = ("weight", "bias")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    training: bool = True
    momentum: float | None = 0.1
    eps: float = 1e-5

    def forward(
        self,
        x: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        num_batches_tracked: Tensor | None = None,
    ) -> tuple[Tensor, Saved]:
        running = (running_mean, running_var) if running_mean is not None and running_var is not None else None
        if running is None or self.training:
            mean, variance = self._batch_statistics(x)
        else:
            mean, variance = running
        if running is not None and self.training:
            self._move(x, (mean, variance), running, num_batches_tracked)
        scale = _channels(torch.rsqrt(variance + self.eps), x)
        normalised = (x - _channels(mean, x)) * scale
        y = normalised if weight is None else normalised * _channels(weight, x)
        y = y if bias is None else y + _channels(bias, x)
        constant = running is not None and not self.training
        return y, {
            "normalised": normalised,
            "scale": scale,
            "weight": weight,
            "has_bias": bias is not None,
            "constant": constant,
        }

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        normalised, weight = saved["normalised"], saved["weight"]
        over = _all_but_channels(delta)
        gradients = {}
        if weight is not None:
            gradients["weight"] = (delta * normalised).sum(over)
        if saved["has_bias"]:
            gradients["bias"] = delta.sum(over)
        scaled = delta if weight is None else delta * _channels(weight, delta)
        if saved["constant"]:
            return (scaled * saved["scale"],), gradients
        return (_standardise_back(normalised, saved["scale"], scaled, over),), gradients

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.numel() <= x.shape[1]:
            raise ArgumentError("x", tuple(x.shape), "more than one value for each channel, to take a variance of")
        over = _all_but_channels(x)
        mean = x.mean(over)
        return mean, (x - _channels(mean, x)).square().mean(over)

    def _move(
        self, x: Tensor, batch: tuple[Tensor, Tensor], running: tuple[Tensor, Tensor], count: Tensor | None
    ) -> None:
        momentum = self.momentum
        if count is not None:
            count += 1
        if momentum is None:
            assert count is not None
            momentum = 1 / int(count)
        n = x.numel() // x.shape[1]
        for moving, new in zip(running, (batch[0], batch[1] * (n / (n - 1))), strict=True):
            moving.mul_(1 - momentum).add_(new.to(moving.dtype), alpha=momentum)


@dataclasses.dataclass(frozen=True)
class LayerNorm(Rule):
    """y = γ·x̂ + β,   x̂ = (x − μ)/√(σ² + ε)   with μ, σ² over each example's last ``dims`` dimensions

        δ_x = (γδ − mean(γδ) − x̂·mean(γδ·x̂))/√(σ² + ε),   ∂J/∂γ = Σ δ·x̂,   ∂J/∂β = Σ δ   over the leading dimensions

    Ba et al. 2016.
    """

    kind = "norm"
    needs = ("normalised", "scale", "weight", "has_bias")
    parameters = ("weight", "bias")
    dims: int = 1
    eps: float = 1e-5

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        normalised, scale = _standardise(x, tuple(range(-self.dims, 0)), self.eps)
        y = normalised if weight is None else normalised * weight
        y = y if bias is None else y + bias
        return y, {"normalised": normalised, "scale": scale, "weight": weight, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        weight, leading = saved["weight"], tuple(range(delta.ndim - self.dims))
        gradients = {}
        if weight is not None:
            gradients["weight"] = _sum(delta * saved["normalised"], leading)
        if saved["has_bias"]:
            gradients["bias"] = _sum(delta, leading)
        scaled = delta if weight is None else delta * weight
        over = tuple(range(-self.dims, 0))
        return (_standardise_back(saved["normalised"], saved["scale"], scaled, over),), gradients


@dataclasses.dataclass(frozen=True)
class GroupNorm(Rule):
    """y = γ·x̂ + β,   x̂ = (x − μ)/√(σ² + ε)   with μ, σ² over the positions of each example's group of channels

    δ as for layer normalisation, within the group; γ and β belong to channels. Wu and He 2018. ``groups`` None gives
    every channel a group of its own: instance normalisation.
    """

    kind = "norm"
    needs = ("normalised", "scale", "weight", "has_bias")
    parameters = ("weight", "bias")
    groups: int | None = None
    eps: float = 1e-5

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Saved]:
        groups = x.shape[1] if self.groups is None else self.groups
        if x.shape[1] % groups:
            raise ArgumentError("groups", groups, f"a divisor of the {x.shape[1]} channels")
        flat, scale = _standardise(x.reshape(x.shape[0], groups, -1), (-1,), self.eps)
        normalised = flat.reshape(x.shape)
        y = normalised if weight is None else normalised * _channels(weight, x)
        y = y if bias is None else y + _channels(bias, x)
        return y, {"normalised": normalised, "scale": scale, "weight": weight, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        normalised, scale, weight = saved["normalised"], saved["scale"], saved["weight"]
        over = _all_but_channels(delta)
        gradients = {}
        if weight is not None:
            gradients["weight"] = (delta * normalised).sum(over)
        if saved["has_bias"]:
            gradients["bias"] = delta.sum(over)
        scaled = delta if weight is None else delta * _channels(weight, delta)
        grouped = (*scale.shape[:2], -1)
        back = _standardise_back(normalised.reshape(grouped), scale, scaled.reshape(grouped), (-1,))
        return (back.reshape(delta.shape),), gradients


def _standardise(x: Tensor, over: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """(x̂, 1/√(σ² + ε))."""
    centred = x - x.mean(over, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(over, keepdim=True) + eps)
    return centred * scale, scale


def _standardise_back(normalised: Tensor, scale: Tensor, delta: Tensor, over: tuple[int, ...]) -> Tensor:
    """(δ − mean δ − x̂·mean(δ·x̂))/√(σ² + ε)."""
    along = (delta * normalised).mean(over, keepdim=True)
    back: Tensor = scale * (delta - delta.mean(over, keepdim=True) - normalised * along)
    return back


def _channels(values: Tensor, x: Tensor) -> Tensor:
    """(c,) → (1, c, 1, …) as x has dimensions."""
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _sum(x: Tensor, over: tuple[int, ...]) -> Tensor:
    return x.sum(over) if over else x


@rule_for_module(nn.LocalResponseNorm)
def _(module: nn.LocalResponseNorm, x: Tensor) -> Rule:
    return LocalResponseNorm(module.size, module.alpha, module.beta, module.k)


@rule_for_function(F.local_response_norm)
def _(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Applied:
    return Applied(LocalResponseNorm(size, alpha, beta, k), (input,))


@rule_for_module(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _(module: nn.BatchNorm2d, x: Tensor) -> Rule:
    return BatchNorm(module.training, module.momentum, module.eps)


@rule_for_function(F.batch_norm)
def _(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Applied:
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return Applied(BatchNorm(training, momentum, eps), (input,), given)


@rule_for_module(nn.LayerNorm)
def _(module: nn.LayerNorm, x: Tensor) -> Rule:
    return LayerNorm(len(module.normalized_shape), module.eps)


@rule_for_function(F.layer_norm)
def _(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Applied:
    return Applied(LayerNorm(len(normalized_shape), eps), (input,), {"weight": weight, "bias": bias})


@rule_for_module(nn.GroupNorm)
def _(module: nn.GroupNorm, x: Tensor) -> Rule:
    return GroupNorm(module.num_groups, module.eps)


@rule_for_function(F.group_norm)
def _(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Applied:
    return Applied(GroupNorm(num_groups, eps), (input,), {"weight": weight, "bias": bias})


@rule_for_module(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _(module: Any, x: Tensor) -> Rule | None:
    dims = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}[type(module)]
    return GroupNorm(None, module.eps) if not module.track_running_stats and x.ndim == dims + 2 else None
