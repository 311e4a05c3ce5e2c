"""Figures of a detector, by the rules of Pascal VOC and of COCO."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy
from torch import Tensor

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.models.fast_rcnn import Regions
from convscope.tasks.average_precision import Curve, coco_figures, voc_curves
from convscope.tasks.detection.answers import Found, found_in
from convscope.tasks.detection.objective import DetectionObjective
from convscope.tasks.detection.region_recall import RegionRecall
from convscope.tasks.detection.settings import DetectionSettings
from convscope.tasks.detection_errors import errors_of
from convscope.training.figures import Figures

OVERLAP = 0.5
RECALLS = 101  # places of the curves that are kept


@dataclasses.dataclass(frozen=True)
class DetectionFigures(Figures):
    """Average precisions are shares between 0 and 1; a class that no picture shows has none, and is in no mean.

    ``mean_ap`` is the mean over the classes of the area under precision over recall at an overlap of 0.5 (VOC since
    2010), ``mean_ap_11point`` that by eleven recalls (VOC 2007), ``coco_ap`` the mean over overlaps 0.5 to 0.95.
    ``boxes`` are those there, difficult ones not counted, ``recall`` the share of them that any answer found, however
    low its score. ``precisions`` are a class's at recalls 0, 0.01, … 1; ``errors`` say of its best boxes, as many as
    there are of it, how many are right, and what is wrong with the others (``tasks.detection_errors``). ``regions`` is
    how many of the things the proposed regions reach (``region_recall``), {} where that is not known.
    """

    headline = "mean_ap"
    counted = "images"

    images: int
    boxes: int
    loss: float
    mean_ap: float
    mean_ap_11point: float
    coco_ap: float
    coco_ap_75: float
    recall: float
    per_class: tuple[float, ...]
    per_class_11point: tuple[float, ...]
    per_class_recall: tuple[float, ...]
    per_class_boxes: tuple[int, ...]
    precisions: tuple[tuple[float, ...], ...]
    errors: tuple[dict[str, int], ...]
    classes: tuple[str, ...]
    regions: dict[str, Any] = dataclasses.field(default_factory=dict)


class Tally:
    """Keeps what is found in each picture and what is there; all is measured at the end."""

    def __init__(self, objective: DetectionObjective, classes: tuple[str, ...], settings: DetectionSettings) -> None:
        self.objective, self.classes, self.settings = objective, classes, settings
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []
        self.there: list[tuple[Tensor, Tensor, Tensor]] = []
        self._regions = RegionRecall()
        self._loss = 0.0

    def add(self, outputs: Regions, batch: Batch) -> None:
        """A detector's answer to a batch of pictures, their sizes and perhaps regions; targets are ``BoxTargets``."""
        for each in found_in(
            outputs, batch.inputs[1], self.settings, self.objective.deviations, self.objective.margins
        ):
            self.found.append(_on_cpu(each))
        for place, (boxes, labels, hard) in enumerate(batch.targets.of_each()):
            self.there.append((boxes.float().cpu(), labels.cpu(), hard.cpu()))
            self._regions.add(outputs.rois[outputs.rois[:, 0] == place, 1:], boxes, hard)
        self._loss += float(self.objective.value(outputs, batch.targets)) * batch.examples

    def figures(self) -> DetectionFigures:
        if not self.there:
            raise ArgumentError("split", "no picture", "pictures to evaluate on")
        found = measured(self.found, self.there, self.classes, self._loss / len(self.there))
        return dataclasses.replace(found, regions=self._regions.figures())


def measured(
    found: Sequence[tuple[Tensor, Tensor, Tensor]],
    there: Sequence[tuple[Tensor, Tensor, Tensor]],
    classes: tuple[str, ...],
    loss: float = float("nan"),
) -> DetectionFigures:
    """The figures of boxes found (boxes, labels, scores) and there (boxes, labels, difficult), one such a picture."""
    curves = voc_curves(found, there, len(classes), OVERLAP)
    coco = coco_figures(found, there, len(classes))
    area = [each.average_precision() for each in curves]
    eleven = [each.average_precision("11point") for each in curves]
    recalls = [float(max(each.recall, default=0.0)) if each.truths else float("nan") for each in curves]
    right, truths = (sum(values) for values in zip(*((int(c.right.sum()), c.truths) for c in curves), strict=True))
    errors = errors_of(found, there, len(classes), OVERLAP)
    return DetectionFigures(
        images=len(there),
        boxes=truths,
        loss=loss,
        mean_ap=_mean(area),
        mean_ap_11point=_mean(eleven),
        coco_ap=coco.ap,
        coco_ap_75=coco.ap_75,
        recall=right / truths if truths else float("nan"),
        per_class=tuple(area),
        per_class_11point=tuple(eleven),
        per_class_recall=tuple(recalls),
        per_class_boxes=tuple(each.truths for each in curves),
        precisions=tuple(map(_thinned, curves)),
        errors=tuple(dataclasses.asdict(each) for each in errors),
        classes=classes,
    )


def _on_cpu(found: Found) -> tuple[Tensor, Tensor, Tensor]:
    return found.boxes.cpu(), found.labels.cpu(), found.scores.cpu()


def _mean(values: Sequence[float]) -> float:
    """Over what is a number; nan where nothing is."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _thinned(curve: Curve) -> tuple[float, ...]:
    """The highest precision at each of ``RECALLS`` recalls or a higher one, 0 beyond the last."""
    if not curve.truths:
        return ()
    best = numpy.append(numpy.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    places = numpy.searchsorted(curve.recall, numpy.arange(RECALLS) / (RECALLS - 1) - 1e-9)
    return tuple(round(float(value), 4) for value in best[places])
