"""The loss of networks that answer for every pixel."""

from __future__ import annotations

import dataclasses

from torch import Tensor
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.losses import Loss
from convscope.rules import loss as rules


@dataclasses.dataclass(frozen=True)
class PixelCrossEntropy(Loss):
    """J = −(1/m) Σ w_t ln softmax(y)_t over the m pixels that have a class; y (n, classes, h, w), targets (n, h, w).

    Pixels of value ``ignored`` have none. ``weights`` are a factor a class, all 1 where left out. Raises ArgumentError
    for other shapes, and for another number of weights than classes.
    """

    ignored: int = 255
    weights: tuple[float, ...] | None = None

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        if y.ndim != 4 or targets.shape != (y.shape[0], *y.shape[2:]) or targets.is_floating_point():
            got = f"{targets.dtype} {tuple(targets.shape)} for outputs {tuple(y.shape)}"
            raise ArgumentError("targets", got, "class indices (n, h, w) for outputs (n, classes, h, w)")
        pixels = (targets != self.ignored).sum().clamp(min=1)
        weights = self._weights(y)
        return F.cross_entropy(y, targets, weights, ignore_index=self.ignored, reduction="sum") / pixels

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.pixel_cross_entropy(y, targets, self.ignored, self._weights(y))

    def _weights(self, y: Tensor) -> Tensor | None:
        if self.weights is None:
            return None
        if len(self.weights) != y.shape[1]:
            raise ArgumentError("weights", len(self.weights), f"one for each of the {y.shape[1]} classes")
        return y.new_tensor(self.weights)
