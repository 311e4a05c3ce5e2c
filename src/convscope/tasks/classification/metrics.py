"""Figures of a classifier on a set of pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.layers import Loss
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class Metrics(Figures):
    """All figures are shares between 0 and 1, but for ``loss``. Rows of ``confusion`` are true classes, columns
    predicted ones; a class that has no picture counts in no mean and its ``per_class`` figure is nan. A picture of
    which any score is nan counts as wrong."""

    headline = "accuracy"
    counted = "images"

    images: int
    loss: float
    accuracy: float
    error: float  # 1 − accuracy
    top5: float  # the true class is among the five best scores (among all of them, when there are fewer classes)
    mean_class_accuracy: float  # mean of the classes' own accuracies, as small classes deserve
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]


class Tally:
    """Counts up scores and labels batch by batch, on the device where they are, and reads them out once at the end."""

    def __init__(self, loss: Loss, class_names: tuple[str, ...] = ()) -> None:
        self.loss, self.class_names = loss, class_names
        self.classes = 0  # as many as the first batch's scores
        self._confusion = self._top5 = self._sum = torch.zeros(())

    def add(self, outputs: Any, batch: Batch) -> None:
        """The model's ``outputs`` for a batch whose targets are class numbers (n,)."""
        self.count(self.loss.predictions(outputs), batch.targets, self.loss.value(outputs, batch.targets))

    def count(self, scores: Tensor, labels: Tensor, mean_loss: Tensor) -> None:
        """``scores`` (n, classes), largest = predicted class; ``labels`` (n,); ``mean_loss`` the batch's mean loss."""
        if not self.classes:
            self.classes = scores.shape[1]
            self._confusion = torch.zeros(self.classes**2, dtype=torch.int64, device=scores.device)
            self._top5 = torch.zeros((), dtype=torch.int64, device=scores.device)
            self._sum = torch.zeros((), dtype=torch.float64, device=scores.device)
        # A model that has gone wrong puts out nan, which argmax takes for the largest and no comparison for larger.
        broken = scores.isnan().any(1)  # (n,)
        predicted = torch.where(broken, (labels + 1) % self.classes, scores.argmax(1))  # (n,)
        cells = labels * self.classes + predicted
        self._confusion += torch.bincount(cells, minlength=self.classes * self.classes)
        # A rank by comparison instead of topk: a tie with the true class does not count against it.
        own = scores.gather(1, labels[:, None])  # (n, 1)
        self._top5 += (((scores > own).sum(1) < 5) & ~broken).sum()
        self._sum += mean_loss.detach().to(torch.float64) * len(labels)

    def figures(self) -> Metrics:
        """Read everything out. ArgumentError when nothing was added."""
        confusion = self._confusion.reshape(self.classes, self.classes).cpu() if self.classes else torch.zeros(0, 0)
        images = int(confusion.sum())
        if images == 0:
            raise ArgumentError("split", "no pictures", "at least one picture to evaluate")
        right, totals = confusion.diagonal().to(torch.float64), confusion.sum(1).to(torch.float64)
        per_class = right / totals  # 0/0 is nan
        accuracy = float(right.sum()) / images
        names = self.class_names
        return Metrics(
            images=images,
            loss=float(self._sum) / images,
            accuracy=accuracy,
            error=(images - int(right.sum())) / images,
            top5=int(self._top5) / images,
            mean_class_accuracy=float(per_class[totals > 0].mean()),
            per_class=tuple(per_class.tolist()),
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            classes=names + tuple(str(index) for index in range(len(names), self.classes)),
        )
