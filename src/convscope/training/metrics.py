"""Figures of a classifier on a set of pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from convscope.errors import ArgumentError
from convscope.training.events import Fields


@dataclasses.dataclass(frozen=True)
class Metrics(Fields):
    """All figures are shares between 0 and 1, but for ``loss``. Rows of ``confusion`` are true classes, columns
    predicted ones; a class that has no picture counts in no mean and its ``per_class`` figure is nan."""

    images: int
    loss: float
    accuracy: float
    error: float  # 1 − accuracy
    top5: float  # the true class is among the five best scores (among all of them, when there are fewer classes)
    mean_class_accuracy: float  # mean of the classes' own accuracies, as small classes deserve
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan (a class without pictures) becomes None, which JSON can hold."""
        content = dataclasses.asdict(self)
        content["per_class"] = [None if value != value else value for value in self.per_class]
        return content


class Tally:
    """Counts up scores and labels batch by batch, on the device where they are, and reads them out once at the end."""

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.classes = classes
        self._confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self._top5 = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, scores: torch.Tensor, labels: torch.Tensor, mean_loss: torch.Tensor) -> None:
        """``scores`` (n, classes), largest = predicted class; ``labels`` (n,); ``mean_loss`` the batch's mean loss."""
        predicted = scores.argmax(1)  # (n,)
        cells = labels * self.classes + predicted
        self._confusion += torch.bincount(cells, minlength=self.classes * self.classes)
        # A rank by comparison instead of topk: a tie with the true class does not count against it.
        own = scores.gather(1, labels[:, None])  # (n, 1)
        self._top5 += ((scores > own).sum(1) < 5).sum()
        self._loss += mean_loss.detach().to(torch.float64) * len(labels)

    def metrics(self, class_names: tuple[str, ...] = ()) -> Metrics:
        """Read everything out. ArgumentError when nothing was added."""
        confusion = self._confusion.reshape(self.classes, self.classes).cpu()
        images = int(confusion.sum())
        if images == 0:
            raise ArgumentError("split", "no pictures", "at least one picture to evaluate")
        right, totals = confusion.diagonal().to(torch.float64), confusion.sum(1).to(torch.float64)
        per_class = right / totals  # 0/0 is nan
        accuracy = float(right.sum()) / images
        return Metrics(
            images=images,
            loss=float(self._loss) / images,
            accuracy=accuracy,
            error=(images - int(right.sum())) / images,
            top5=int(self._top5) / images,
            mean_class_accuracy=float(per_class[totals > 0].mean()),
            per_class=tuple(per_class.tolist()),
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            classes=class_names + tuple(str(index) for index in range(len(class_names), self.classes)),
        )
