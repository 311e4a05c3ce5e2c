"""Figures of pictures that come in parts: mean and deviation of each channel, mean colour."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def mean_and_deviation(parts: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact mean and standard deviation of each channel over all pixels of ``parts``, uint8 (n, c, h, w) each, as
    fractions of 255, by counts of the 256 grey values. A deviation is never 0: a constant channel's is given as 1."""
    counts: list[Tensor] = []
    for part in parts:
        counts = counts or [torch.zeros(256, dtype=torch.float64) for _ in range(part.shape[1])]
        for channel, so_far in enumerate(counts):
            for some in torch.split(part[:, channel], 4096):  # bincount widens to int64: 8 times the part's size
                so_far += torch.bincount(some.flatten(), minlength=256).cpu()
    values = torch.arange(256, dtype=torch.float64) / 255
    means: list[float] = []
    deviations: list[float] = []
    for each in counts:
        weights = each / each.sum()
        mean = float(weights @ values)
        deviation = float(weights @ (values - mean) ** 2) ** 0.5
        means.append(mean)
        deviations.append(deviation if deviation > 1e-6 else 1.0)  # a constant channel is only shifted
    return tuple(means), tuple(deviations)
