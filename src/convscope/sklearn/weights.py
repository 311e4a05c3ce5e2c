"""Examples that count more or less than others: scikit-learn's ``sample_weight``.

J of a batch is Σ w ℓ / Σ w, ℓ the loss of one example and w its weight, and the mean and deviation that pictures are
normalised by are weighed likewise: an example of weight 2 is the same as two of it, one of weight 0 as none.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from convscope.data import Labelled
from convscope.data.examples import Batch
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError
from convscope.lowering.objective import Objective as LoweredObjective
from convscope.sklearn.arrays import Array
from convscope.sklearn.numbers import Numbers, NumbersClassification
from convscope.tasks.classification.task import Classification, ClassificationObjective
from convscope.training.task import Objective, Scalar

_AT_ONCE = 1024  # pictures widened to float64


class Weighed(NamedTuple):
    """The targets of a batch: class numbers int64 (n,) and weights float64 (n,)."""

    labels: Tensor
    weights: Tensor


def checked_weights(sample_weight: Any, examples: int) -> Array | None:
    """``sample_weight`` as float64 (n,); None where it says nothing: none given, or all equal.

    Raises ArgumentError for another number of them, for some below 0 or not finite, and where all are 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(examples, float(weights))
    if weights.shape != (examples,):
        hint = f"Sample weights must be 1D: sample_weight.shape == {weights.shape}, expected ({examples},)!"
        raise ArgumentError("sample_weight", weights.shape, f"one number for each of the {examples} examples", hint)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ArgumentError("sample_weight", _range(weights), "finite numbers from 0 on")
    if not weights.any():
        raise ArgumentError("sample_weight", "all zero", "at least one example that counts")
    return None if (weights == weights[0]).all() else weights


def _range(weights: Array) -> str:
    return f"{weights.min():.4g} … {weights.max():.4g}"


class _Weighing(Labelled):
    """What differs where examples have weights."""

    weights: Tensor  # float64 (n,)

    def batch(self, indices: Tensor) -> Batch:
        found = super().batch(indices)
        weights = self.weights.index_select(0, indices.to(self.weights.device))
        return dataclasses.replace(found, targets=Weighed(found.targets, weights), weight=self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        return float(self.weights.index_select(0, indices.to(self.weights.device)).sum())

    def fingerprint(self, checksum: int = 0) -> int:
        return zlib.crc32(self.weights.cpu().numpy().tobytes(), super().fingerprint(checksum))

    def to(self, device: torch.device | str) -> Self:
        parts = {name: getattr(self, name).to(device) for name in ("images", "labels", "weights")}
        return dataclasses.replace(self, **parts)

    def select(self, indices: Tensor) -> Self:
        indices = indices.to(self.labels.device)
        parts = {name: getattr(self, name).index_select(0, indices) for name in ("images", "labels", "weights")}
        return dataclasses.replace(self, **parts)

    def _moments(self, images: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """Weighed mean and standard deviation of each channel (c,), of ``images`` (n, c, h, w) in units of ``unit``."""
        shares = self.weights / self.weights.sum()  # (n,)
        pairs = list(zip(torch.split(shares, _AT_ONCE), torch.split(images, _AT_ONCE), strict=True))
        mean = sum(torch.einsum("n,ncp->c", w, x.flatten(2).double()) / x[0, 0].numel() for w, x in pairs)
        assert isinstance(mean, Tensor)
        squares = (
            torch.einsum("n,ncp->c", w, (x.flatten(2).double() - mean[:, None]) ** 2) / x[0, 0].numel()
            for w, x in pairs
        )
        return mean / unit, sum(squares, torch.zeros_like(mean)).sqrt() / unit


@dataclasses.dataclass(frozen=True, eq=False)
class WeighedPictures(_Weighing):
    """``Labelled`` with weights."""

    weights: Tensor

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        images = self.images if channels is None else convert_channels(self.images, channels)
        mean, std = self._moments(images, 255.0)
        return tuple(mean.tolist()), tuple(torch.where(std > 1e-6, std, 1.0).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class WeighedNumbers(_Weighing, Numbers):
    """``Numbers`` with weights."""

    weights: Tensor

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        assert channels in (None, self.channels)
        mean, std = self._moments(self.images, 1.0)
        largest = self.images.double().abs().amax((0, 2, 3))
        return tuple(mean.tolist()), tuple(torch.where(std > 1e-12 * largest, std, 1.0).tolist())


def weighed(examples: Labelled, weights: Array) -> Labelled:
    """``examples`` with weights, without those of weight 0."""
    kind = WeighedNumbers if isinstance(examples, Numbers) else WeighedPictures
    found = kind(examples.images, examples.labels, examples.classes, torch.from_numpy(weights))
    return found.select(torch.from_numpy(np.flatnonzero(weights)))


class WeighedObjective(ClassificationObjective):
    """A loss whose examples have weights. The native engine leaves it to torch and takes ∂J/∂outputs back."""

    def value(self, outputs: Any, targets: Any) -> Tensor:  # Weighed
        each = self.loss.each(outputs, targets.labels)  # (n,)
        weights = targets.weights.to(each)
        mean: Tensor = (weights * each).sum() / weights.sum()
        return mean

    def value_and_delta(self, outputs: Any, targets: Any) -> None:  # type: ignore[override]
        return None

    def count(self, outputs: Any, targets: Any) -> Sequence[Scalar]:
        return super().count(outputs, targets.labels)

    def lowered(self, model: nn.Module) -> LoweredObjective | None:
        return None


class _WeighedTask(Classification):
    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        found = super().objective(model, loss)
        assert isinstance(found, ClassificationObjective)
        return WeighedObjective(found.loss)

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        return super().training_figures(loss, weight, examples, counts) | {"loss": loss / weight if weight else 0.0}


class WeighedClassification(_WeighedTask):
    """Classification of ``WeighedPictures``; it is evaluated on examples without weights."""


class WeighedNumbersClassification(_WeighedTask, NumbersClassification):
    """Classification of ``WeighedNumbers``; it is evaluated on examples without weights."""
