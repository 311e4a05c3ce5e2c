"""Figures of a sentence classifier."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class SentenceFigures(Figures):
    """Shares between 0 and 1, but for ``loss``. Rows of ``confusion`` are true classes, columns predicted ones; a class
    without sentences has nan in ``per_class``. A sentence of which any score is nan counts as wrong."""

    headline = "accuracy"
    counted = "sentences"

    sentences: int
    loss: float
    accuracy: float
    error: float  # 1 − accuracy
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]


class SentenceTally:
    """Counts up scores and class numbers batch by batch."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._cells = torch.zeros(len(classes) ** 2, dtype=torch.int64)
        self._loss = 0.0

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Scores (n, classes) of a batch whose targets are class numbers (n,)."""
        labels = batch.targets
        self._loss += float(F.cross_entropy(outputs, labels, reduction="sum"))
        broken = outputs.isnan().any(1)
        found = torch.where(broken, (labels + 1) % len(self.classes), outputs.argmax(1))
        cells = labels * len(self.classes) + found
        self._cells += torch.bincount(cells, minlength=len(self._cells)).cpu()

    def figures(self) -> SentenceFigures:
        """ArgumentError when nothing was added."""
        confusion = self._cells.reshape(len(self.classes), -1)
        total = int(confusion.sum())
        if not total:
            raise ArgumentError("split", "no sentences", "at least one sentence to evaluate")
        right = confusion.diagonal().double()
        accuracy = float(right.sum()) / total
        return SentenceFigures(
            sentences=total,
            loss=self._loss / total,
            accuracy=accuracy,
            error=1 - accuracy,
            per_class=tuple((right / confusion.sum(1).double()).tolist()),
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            classes=self.classes,
        )
