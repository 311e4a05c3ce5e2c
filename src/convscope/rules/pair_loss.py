"""The loss of pairs: examples of one class are to be near, those of two classes far."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.loss import ValueAndDelta


def pair_loss(D: Tensor, same: Tensor) -> ValueAndDelta:
    """J = (1/n)·Σ ln(1 + e^(δ·D)),   δ = 1 where both are of one class, else −1,   ∂J/∂D = (1/n)·δ·σ(δ·D)

    Xue 2016, eq. (29) and (30), after Fan et al. 2014 (Pyramid CNN); the mean in place of the sum. D (n,) is what eq.
    (31) makes of the distance d of two feature vectors, α·d − β with α and β learned: below 0 it says "the same".
    """
    if D.ndim != 1 or same.shape != D.shape:
        raise ArgumentError("same", tuple(same.shape), f"one of two answers for each of the pairs, {tuple(D.shape)}")
    sign = torch.where(same.to(torch.bool), 1.0, -1.0).to(D.dtype)
    n = max(len(D), 1)
    return torch.nn.functional.softplus(sign * D).sum() / n, sign * torch.sigmoid(sign * D) / n
