"""How well boxes were found: precision over recall by the rules of Pascal VOC and of COCO.

What is found in a picture is (boxes (k, 4), labels (k,), scores (k,)), what is there (boxes (m, 4), labels (m,),
difficult (m,)), one such triple for each picture, arrays or tensors; labels are class numbers from 0. A box is
right where it overlaps (intersection over union) one that is there and of its class by at least ``overlap``:

- *VOC* (Everingham et al. 2010): boxes of a class, by falling score over all pictures, each take the box there that
  they overlap most. Where that is difficult, the box found counts neither as right nor as wrong; where it was taken
  before, as wrong.
- *COCO* (Lin et al. 2014): each takes the one it overlaps most among those not taken yet, difficult ones only where it
  overlaps no other enough; a picture gives at most its 100 best boxes of a class.

Equal scores keep the order of the pictures, and in a picture their own. A class of which nothing is there (but
difficult ones) has no precision, nan, and is in no mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import numpy.typing
import torch

from convscope.errors import ArgumentError
from convscope.layers.boxes import box_iou

Numbers = numpy.typing.NDArray[numpy.float64]
Places = numpy.typing.NDArray[numpy.int64]
Truths = numpy.typing.NDArray[numpy.bool_]

INTERPOLATIONS = ("area", "11point", "101point")
COCO_OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_COCO_MOST = 100
#: A recall of 3 in 10 is a recall of 0.3, whatever the rounding.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """What was found in a picture and what is there, as arrays; see the module."""

    boxes: Numbers
    labels: Places
    scores: Numbers
    true_boxes: Numbers
    true_labels: Places
    difficult: Truths

    def overlaps(self, mine: Any, theirs: Any) -> Numbers:
        """Intersection over union of chosen boxes found and chosen ones there; 0 where neither has an area."""
        one, other = torch.from_numpy(self.boxes[mine]), torch.from_numpy(self.true_boxes[theirs])
        found: Numbers = numpy.nan_to_num(box_iou(one, other).numpy())
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A class's boxes by falling score: ``scores`` and which are ``right``, out of ``truths`` that are there.

    ``recall`` and ``precision`` are of the boxes up to each.
    """

    scores: Numbers
    right: Truths
    truths: int

    @property
    def recall(self) -> Numbers:
        share: Numbers = self.right.cumsum() / (self.truths or numpy.nan)
        return share

    @property
    def precision(self) -> Numbers:
        share: Numbers = self.right.cumsum() / numpy.arange(1, len(self.right) + 1)
        return share

    def average_precision(self, interpolation: str = "area") -> float:
        """See ``average_precision``; nan where nothing is there."""
        return average_precision(self.recall, self.precision, interpolation) if self.truths else float("nan")


def average_precision(recall: Any, precision: Any, interpolation: str = "area") -> float:
    """The mean precision over recalls, of recalls (k,) that do not fall and the precisions at them.

    The precision at a recall is the highest at that recall or a higher one, 0 beyond the last. "area": all recalls from
    0 to 1 (VOC since 2010); "11point": 0, 0.1, … 1 (VOC up to 2009); "101point": 0, 0.01, … 1 (COCO). Raises
    ArgumentError for other interpolations, and for what is no such curve.
    """
    if interpolation not in INTERPOLATIONS:
        raise ArgumentError("interpolation", interpolation, f"one of {', '.join(INTERPOLATIONS)}")
    found, exact = (numpy.asarray(each, numpy.float64) for each in (recall, precision))
    if found.ndim != 1 or found.shape != exact.shape:
        raise ArgumentError("precision", exact.shape, f"one for each recall, {found.shape}")
    for name, values in (("recall", found), ("precision", exact)):
        if not ((values >= 0) & (values <= 1 + _ROUNDING)).all():
            raise ArgumentError(name, values[~((values >= 0) & (values <= 1 + _ROUNDING))][0], "shares from 0 to 1")
    if (numpy.diff(found) < 0).any():
        raise ArgumentError("recall", "recalls that fall", "recalls in rising order")
    best = numpy.append(numpy.maximum.accumulate(exact[::-1])[::-1], 0.0)
    if interpolation == "area":
        return float((numpy.diff(found, prepend=0.0) * best[:-1]).sum())
    steps = 10 if interpolation == "11point" else 100
    wanted = numpy.arange(steps + 1) / steps
    return float(best[numpy.searchsorted(found, wanted - _ROUNDING)].mean())


def together(found: Sequence[Any], there: Sequence[Any], classes: int) -> list[Picture]:
    """Both sides of each picture as arrays. Raises ArgumentError, naming the picture, for what does not fit."""
    if len(found) != len(there):
        raise ArgumentError("found", f"{len(found)} pictures", f"as many as there are, {len(there)}")
    return [_picture(number, *pair, classes) for number, pair in enumerate(zip(found, there, strict=True))]


def _picture(number: int, found: Any, there: Any, classes: int) -> Picture:
    sides: list[Any] = []
    for name, triple, kind in (("found", found, numpy.float64), ("there", there, numpy.bool_)):
        if len(triple) != 3:
            raise ArgumentError(name, f"{len(triple)} parts of picture {number}", "boxes, labels and a third")
        boxes, labels, last = (numpy.asarray(each) for each in triple)
        boxes = boxes.astype(numpy.float64).reshape(-1, 4) if boxes.size == 0 else boxes.astype(numpy.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) == labels.size == last.size:
            got = f"{boxes.shape}, {labels.shape}, {last.shape} in picture {number}"
            raise ArgumentError(name, got, "boxes (k, 4) and for each a label and a third")
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            got = f"{int(labels.min())} to {int(labels.max())} in picture {number}"
            raise ArgumentError(f"labels of {name}", got, f"class numbers 0 to {classes - 1}")
        sides += [boxes, labels.astype(numpy.int64).reshape(-1), last.astype(kind).reshape(-1)]
    if numpy.isnan(sides[2]).any():
        raise ArgumentError("scores", f"nan in picture {number}", "numbers")
    return Picture(*sides)


#: From overlaps (k, m) of boxes by falling score with those there, which are difficult, and the overlap wanted: the box
#: that each found one takes, or −1.
Matching = Callable[[Numbers, Truths, float], Places]


def by_voc(overlaps: Numbers, difficult: Truths, overlap: float) -> Places:
    """Each takes the one it overlaps most, if enough."""
    most = overlaps.argmax(1)
    return numpy.where(overlaps[numpy.arange(len(most)), most] >= overlap, most, -1)


def by_coco(overlaps: Numbers, difficult: Truths, overlap: float) -> Places:
    """Each takes what it overlaps most of what is free; of those that are difficult it may take any at any time."""
    taken = numpy.full(len(overlaps), -1)
    free = ~difficult
    for index, row in enumerate(overlaps):
        for choice in (free, difficult):
            able = numpy.where(choice, row, -1.0)
            best = len(able) - 1 - able[::-1].argmax()  # of equals the last, as in COCO's own program
            if able[best] >= overlap:
                taken[index] = best
                free = free & (numpy.arange(len(free)) != best)
                break
    return taken


def curve_of(pictures: Sequence[Picture], label: int, overlap: float = 0.5, rule: Matching = by_voc) -> Curve:
    """Precision over recall of class ``label``."""
    scores, right, counted, truths = [], [], [], 0
    for picture in pictures:
        theirs, mine = picture.true_labels == label, numpy.flatnonzero(picture.labels == label)
        difficult = picture.difficult[theirs]
        truths += int((~difficult).sum())
        mine = mine[numpy.argsort(-picture.scores[mine], kind="stable")]
        if rule is by_coco:
            mine = mine[:_COCO_MOST]
        if not len(mine):
            continue
        scores.append(picture.scores[mine])
        if not len(difficult):
            right.append(numpy.zeros(len(mine), numpy.bool_))
            counted.append(numpy.ones(len(mine), numpy.bool_))
            continue
        taken = rule(picture.overlaps(mine, theirs), difficult, overlap)
        ignored = (taken >= 0) & difficult[taken]
        first = numpy.zeros(len(mine), numpy.bool_)
        first[numpy.unique(taken, return_index=True)[1]] = True
        right.append(first & (taken >= 0) & ~ignored)
        counted.append(~ignored)
    if not scores:
        return Curve(numpy.zeros(0), numpy.zeros(0, numpy.bool_), truths)
    kept = numpy.concatenate(counted)
    all_scores, all_right = numpy.concatenate(scores)[kept], numpy.concatenate(right)[kept]
    order = numpy.argsort(-all_scores, kind="stable")
    return Curve(all_scores[order], all_right[order], truths)


def voc_curves(found: Sequence[Any], there: Sequence[Any], classes: int, overlap: float = 0.5) -> list[Curve]:
    """Precision over recall of each class by VOC's rules. Raises ArgumentError for what does not fit together."""
    if not 0 < overlap <= 1:
        raise ArgumentError("overlap", overlap, "an intersection over union above 0 and at most 1")
    pictures = together(found, there, classes)
    return [curve_of(pictures, label, overlap) for label in range(classes)]


@dataclasses.dataclass(frozen=True)
class CocoFigures:
    """``ap``: mean over overlaps 0.5, 0.55, … 0.95 and classes of the 101-point precision; ``ap_50``, ``ap_75`` at one
    overlap; ``recall``: mean over both of the highest recall; ``per_class`` over the overlaps. nan where nothing is
    there."""

    ap: float
    ap_50: float
    ap_75: float
    recall: float
    per_class: tuple[float, ...]


def coco_figures(found: Sequence[Any], there: Sequence[Any], classes: int) -> CocoFigures:
    """COCO's figures of boxes of all sizes. Raises ArgumentError for what does not fit together."""
    pictures = together(found, there, classes)
    curves = [[curve_of(pictures, label, each, by_coco) for each in COCO_OVERLAPS] for label in range(classes)]
    precision = numpy.array([[curve.average_precision("101point") for curve in row] for row in curves])
    recall = numpy.array([[max(curve.recall, default=0.0) for curve in row] for row in curves if row[0].truths])
    present = [bool(row[0].truths) for row in curves]
    if not any(present):
        nan = float("nan")
        return CocoFigures(nan, nan, nan, nan, tuple(precision.mean(1).tolist()))
    means = precision[present].mean(0)
    return CocoFigures(
        ap=float(means.mean()),
        ap_50=float(means[COCO_OVERLAPS.index(0.5)]),
        ap_75=float(means[COCO_OVERLAPS.index(0.75)]),
        recall=float(recall.mean()),
        per_class=tuple(precision.mean(1).tolist()),
    )
