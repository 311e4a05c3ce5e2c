"""Euclidean radial-basis output units."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved


@dataclasses.dataclass(frozen=True)
class EuclideanRBF(Rule):
    """y_i = Σ_j (x_j − w_ij)²

        δ_x_j = 2·Σ_i δ_i·(x_j − w_ij),   ∂J/∂w_ij = −2·δ_i·(x_j − w_ij)

    LeCun et al. 1998, eq. (7): the squared distance of x from the code w_i of class i, x (n, features), w (classes,
    features). In LeNet-5 the codes are 7×12 bitmaps of ±1 and stay fixed.
    """

    kind = "rbf"
    needs = ("difference",)
    parameters = ("weight",)

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Saved]:
        if x.ndim != 2 or x.shape[1] != weight.shape[1]:
            raise ArgumentError("x", tuple(x.shape), f"(n, {weight.shape[1]} features), as long as the codes")
        difference = x.unsqueeze(1) - weight  # (n, classes, features)
        return difference.square().sum(2), {"difference": difference}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        weighted = 2 * delta.unsqueeze(2) * saved["difference"]  # (n, classes, features)
        return (weighted.sum(1),), {"weight": -weighted.sum(0)}
