"""The cost of a sparse autoencoder beside its weight decay: what the reconstruction loses, how often units fire."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.loss import ValueAndDelta

# ρ̂ of a sigmoid lies between 0 and 1; in float32 it can round to either, where KL is infinite.
_EDGE = 1e-6


def reconstruction(y: Tensor, x: Tensor) -> ValueAndDelta:
    """J = (1/m)·Σ_t ½·‖y_t − x_t‖²,   ∂J/∂y = (y − x)/m

    Xue 2016, the first term of eq. (49) and (50) without f′; y and x are (m, …), ∂J/∂x = −∂J/∂y.
    """
    if y.shape != x.shape:
        raise ArgumentError("x", tuple(x.shape), f"the shape of the reconstruction, {tuple(y.shape)}")
    difference = y - x
    return 0.5 * difference.square().sum() / len(y), difference / len(y)


def sparsity(a: Tensor, rho: float) -> ValueAndDelta:
    """J = Σ_j KL(ρ‖ρ̂_j),   KL = ρ·ln(ρ/ρ̂_j) + (1 − ρ)·ln((1 − ρ)/(1 − ρ̂_j)),   ρ̂_j = (1/m)·Σ_t a_tj

        ∂J/∂a_tj = (1/m)·(−ρ/ρ̂_j + (1 − ρ)/(1 − ρ̂_j))

    Xue 2016, eq. (45)–(48) and the sparsity term of (51). a, (m, units), are activations between 0 and 1.
    """
    if not 0 < rho < 1:
        raise ArgumentError("rho", rho, "a mean activation between 0 and 1, for example 0.05")
    if a.ndim != 2:
        raise ArgumentError("a", tuple(a.shape), "activations (m, units)")
    mean = a.mean(0)  # (units,)
    inside = mean.clamp(_EDGE, 1 - _EDGE)
    slope = (-rho / inside + (1 - rho) / (1 - inside)) / len(a) * (mean == inside)
    return divergence(inside, rho).sum(), slope.expand_as(a)


def divergence(mean: Tensor, rho: float) -> Tensor:
    """KL(ρ‖ρ̂) of every unit, by its mean activation."""
    mean = mean.clamp(_EDGE, 1 - _EDGE)
    return rho * torch.log(rho / mean) + (1 - rho) * torch.log((1 - rho) / (1 - mean))
