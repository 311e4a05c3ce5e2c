"""The gradient, integrated along the way from a baseline."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import BATCH, Subject

_FIRST, _MOST = 32, 512
_CLOSE = 5e-3  # of |s(x) − s(x₀)|, which the sum over all pixels should be


@method(adds_up=True, steps=_FIRST)
def integrated_gradients(subject: Subject, baseline: float | Tensor = 0.0, steps: int | None = None) -> Tensor:
    """(x − x₀)·∫₀¹ ∂s/∂x(x₀ + t·(x − x₀)) dt: the score's rise from the baseline x₀, shared out among the pixels.

    Sundararajan, Taly, Yan 2017. The sum over all pixels is s(x) − s(x₀) (completeness). ``baseline`` x₀ is a number or
    a tensor that fits x; 0 is the mean picture where inputs are normalised by their mean. The integral is taken at the
    ``steps`` points of Gauss and Legendre; None doubles them from 32 up to 512 until completeness holds within 0.5 %.
    """
    if steps is not None and steps < 1:
        raise ArgumentError("steps", steps, "an integer ≥ 1")
    start = baseline_of(subject.x, baseline)
    rise = subject.value - subject.values(start)
    count = _FIRST if steps is None else steps
    while True:
        found = (subject.x - start) * _mean_gradient(subject, start, count)
        gap = (found.flatten(1).sum(1) - rise).abs()
        if steps is not None or count >= _MOST or bool((gap <= _CLOSE * rise.abs()).all()):
            return found
        count *= 2


def _mean_gradient(subject: Subject, start: Tensor, count: int) -> Tensor:
    points, weights = (torch.from_numpy(each).to(start) for each in np.polynomial.legendre.leggauss(count))
    total = torch.zeros_like(start)
    for number in range(len(start)):
        one, way = subject.of_one(number), subject.x[number] - start[number]
        for some, share in zip(torch.split(points, BATCH), torch.split(weights, BATCH), strict=True):
            along = (1 + some).reshape(-1, *(1,) * way.ndim) / 2
            gradients = one.gradient(start[number] + along * way)
            total[number] += torch.tensordot(share / 2, gradients, 1)
    return total


def baseline_of(x: Tensor, baseline: float | Tensor) -> Tensor:
    """The baseline in x's shape; ArgumentError for one that does not fit."""
    given = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
    try:
        return given.expand_as(x).clone()
    except RuntimeError:
        raise ArgumentError("baseline", tuple(given.shape), f"a number, or what fits {tuple(x.shape)}") from None
