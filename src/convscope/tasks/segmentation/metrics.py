"""Figures of a network that answers for every pixel, by the definitions of Long, Shelhamer and Darrell, CVPR 2015.

n_ij is how many pixels of class i are taken for class j, t_i = Σ_j n_ij, and there are c classes:

    pixel accuracy               Σ_i n_ii / Σ_i t_i
    mean accuracy                (1/c) Σ_i n_ii / t_i
    mean IoU                     (1/c) Σ_i n_ii / (t_i + Σ_j n_ji − n_ii)
    frequency-weighted IoU       (Σ_k t_k)⁻¹ Σ_i t_i n_ii / (t_i + Σ_j n_ji − n_ii)

The n_ij are summed over all pictures before anything is divided. A class without pixels has no accuracy, and one that
is never answered either no IoU; such classes are in no mean.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy
import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.maps import IGNORED
from convscope.errors import ArgumentError
from convscope.training.figures import Figures
from convscope.training.task import Objective


@dataclasses.dataclass(frozen=True)
class SegmentationFigures(Figures):
    """All figures are shares between 0 and 1, but for ``loss``, of the pixels that have a class. Rows of ``confusion``
    are true classes, columns answered ones. Pixels of which any score is nan count as wrong."""

    headline = "mean_iou"
    counted = "images"

    images: int
    pixels: int
    loss: float
    mean_iou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    frequency_weighted_iou: float
    error: float  # 1 − pixel accuracy
    per_class_iou: tuple[float, ...]
    per_class: tuple[float, ...]  # accuracies
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Regions:
    """What follows from a confusion matrix; nan where there is nothing to divide by."""

    iou: Tensor  # (c,) float64
    accuracy: Tensor  # (c,)
    mean_iou: float
    mean_accuracy: float
    pixel_accuracy: float
    frequency_weighted_iou: float


def confusion_matrix(answered: Tensor, targets: Tensor, classes: int, ignored: int = IGNORED) -> Tensor:
    """int64 (classes, classes): how many pixels of class i are answered j; both maps int64 of one shape."""
    known = targets != ignored
    cells = targets[known] * classes + answered[known]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def regions(confusion: Tensor) -> Regions:
    """The figures of a confusion matrix (c, c) with at least one pixel."""
    counts = confusion.to(torch.float64)
    right, totals = counts.diagonal(), counts.sum(1)
    iou = right / (totals + counts.sum(0) - right)
    accuracy = right / totals
    present = totals > 0
    return Regions(
        iou,
        accuracy,
        float(iou[~iou.isnan()].mean()),
        float(accuracy[present].mean()),
        float(right.sum() / totals.sum()),
        float((totals * iou)[present].sum() / totals.sum()),
    )


def mean_iou(answered: Any, targets: Any, classes: int | None = None, ignored: int = IGNORED) -> float:
    """Mean intersection over union of answered class numbers and true ones, over all pixels of both together.

    Both are integer arrays or tensors of one shape, (h, w) or (n, h, w); pixels whose target is ``ignored`` do not
    count. ``classes`` are by default as many as the highest number says. Raises ArgumentError for other shapes or
    types, numbers that are no class, and where no pixel counts.
    """
    own, true = _numbers("answered", answered), _numbers("targets", targets)
    if own.shape != true.shape:
        raise ArgumentError("answered", tuple(own.shape), f"the targets' shape, {tuple(true.shape)}")
    known = true != ignored
    own, true = own[known], true[known]
    if not len(true):
        raise ArgumentError("targets", "no pixel with a class", "at least one")
    highest = int(max(own.max(), true.max()))
    count = highest + 1 if classes is None else classes
    for name, numbers in (("answered", own), ("targets", true)):
        wrong = numbers[(numbers < 0) | (numbers >= count)]
        if len(wrong):
            raise ArgumentError(name, int(wrong[0]), f"class numbers 0 … {count - 1}, or {ignored} for no class")
    return regions(confusion_matrix(own, true, count, ignored=-1)).mean_iou


def _numbers(name: str, given: Any) -> Tensor:
    tensor = given if isinstance(given, Tensor) else torch.from_numpy(numpy.asarray(given))
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentError(name, tensor.dtype, "class numbers, integers")
    return tensor.to(torch.int64)


class Tally:
    """Adds up a confusion matrix batch by batch, on the device where the answers are, and reads it out at the end."""

    def __init__(self, objective: Objective, classes: tuple[str, ...]) -> None:
        self.objective, self.classes = objective, classes
        self.images = 0
        self._confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self._loss = torch.zeros((), dtype=torch.float64)

    def add(self, outputs: Any, batch: Batch) -> None:
        """Scores (n, classes, h, w) for a batch whose targets are class numbers (n, h, w)."""
        targets, count = batch.targets, len(self.classes)
        answered = answers(outputs)
        # Scores that are no numbers are wrong whatever they seem to say: those pixels are given the next class.
        answered = torch.where(outputs.isnan().any(1), (targets + 1) % count, answered)
        found = confusion_matrix(answered, targets, count)
        self._confusion = self._confusion.to(found.device) + found
        value = self.objective.value(outputs, targets).detach().to(torch.float64) * found.sum()
        self._loss = self._loss.to(value.device) + value
        self.images += batch.examples

    def figures(self) -> SegmentationFigures:
        confusion = self._confusion.cpu()
        pixels = int(confusion.sum())
        if pixels == 0:
            raise ArgumentError("split", f"{self.images} pictures, no pixel of a class", "pixels to evaluate on")
        found = regions(confusion)
        return SegmentationFigures(
            images=self.images,
            pixels=pixels,
            loss=float(self._loss) / pixels,
            mean_iou=found.mean_iou,
            pixel_accuracy=found.pixel_accuracy,
            mean_class_accuracy=found.mean_accuracy,
            frequency_weighted_iou=found.frequency_weighted_iou,
            error=1 - found.pixel_accuracy,
            per_class_iou=tuple(found.iou.tolist()),
            per_class=tuple(found.accuracy.tolist()),
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            classes=self.classes,
        )


def answers(scores: Tensor) -> Tensor:
    """The class of every pixel, int64 (n, h, w), of scores (n, classes, h, w)."""
    return scores.argmax(1)
