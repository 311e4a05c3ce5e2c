"""How well pictures are reconstructed, and how sparse their codes are."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.rules.sparse_loss import divergence
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class Reconstruction(Figures):
    """``error`` is the mean of ½‖y − x‖², ``per_value`` the root of the mean of (y − x)² over all values,
    ``activation`` the units' mean ρ̂, ``divergence`` Σ_j KL(ρ‖ρ̂_j) over all examples, ``silent`` units with ρ̂ < 0.001;
    ``loss`` is error + β·divergence (eq. (49) without the decay)."""

    headline = "error"
    higher_is_better = False
    counted = "images"

    images: int
    loss: float
    error: float
    per_value: float
    activation: float
    divergence: float
    units: int
    silent: int


class ReconstructionTally:
    """Adds up what a model answers, (reconstruction, code, original)."""

    def __init__(self, rho: float, beta: float) -> None:
        self.rho, self.beta = rho, beta
        self._images, self._values = 0, 0
        self._squares = torch.zeros((), dtype=torch.float64)
        self._activations: Tensor | None = None

    def add(self, outputs: Any, batch: Batch) -> None:
        y, code, x = outputs
        self._images += len(y)
        self._values += y.numel()
        self._squares = self._squares + (y.double() - x.double()).square().sum().cpu()
        sums = code.double().sum(0).cpu()
        self._activations = sums if self._activations is None else self._activations + sums

    def figures(self) -> Reconstruction:
        if self._activations is None:
            raise ArgumentError("split", "no pictures", "at least one picture to evaluate")
        mean = self._activations / self._images
        error = float(self._squares) / 2 / self._images
        lost = float(divergence(mean, self.rho).sum())
        return Reconstruction(
            images=self._images,
            loss=error + self.beta * lost,
            error=error,
            per_value=(float(self._squares) / self._values) ** 0.5,
            activation=float(mean.mean()),
            divergence=lost,
            units=len(mean),
            silent=int((mean < 1e-3).sum()),
        )
