"""The gradient, averaged over noise."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import BATCH, Subject


@method(samples=8)
def smooth_grad(subject: Subject, samples: int = 32, noise: float = 0.15, seed: int = 0) -> Tensor:
    """Mean of ∂s/∂x at x + ε, ε normal: the gradient without its fastest ripples.

    Smilkov, Thorat, Kim, Viégas, Wattenberg 2017. ε has the deviation ``noise``·(max x − min x) of each example;
    ``samples`` are drawn with ``seed``.
    """
    if samples < 1:
        raise ArgumentError("samples", samples, "an integer ≥ 1")
    if noise < 0:
        raise ArgumentError("noise", noise, "a number ≥ 0")
    x = subject.x
    flat = x.flatten(1)
    spread = (flat.amax(1) - flat.amin(1)).reshape(-1, *(1,) * (x.ndim - 1))
    stream = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(x)
    for first in range(0, samples, BATCH):
        count = min(BATCH, samples - first)
        drawn = torch.stack([torch.randn(x.shape, generator=stream, dtype=torch.float64).to(x) for _ in range(count)])
        for number in range(len(x)):
            total[number] += (
                subject.of_one(number).gradient(x[number] + noise * spread[number] * drawn[:, number]).sum(0)
            )
    return total / samples
