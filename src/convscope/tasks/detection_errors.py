"""What a detector's mistakes are (Hoiem, Chodpathumwan, Dai, ECCV 2012)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy

from convscope.errors import ArgumentError
from convscope.tasks.average_precision import Picture, by_voc, curve_of, together

#: Overlap from which on a wrong box has to do with what is there, and is not of the background.
NEAR = 0.1


@dataclasses.dataclass(frozen=True)
class Errors:
    """A class's best boxes, counted: those that are ``right``, and the others by what is wrong with them.

    ``localisation``: on something of the class, but overlapping it too little; ``duplicate``: on something found
    before; ``similar`` and ``other``: on something of another class, similar or not; ``background``: on nothing.
    ``missed`` of the ``truths`` that are there none of these boxes found. Difficult ones do not count.
    """

    right: int
    localisation: int
    duplicate: int
    similar: int
    other: int
    background: int
    missed: int
    truths: int


def errors_of(
    found: Sequence[Any],
    there: Sequence[Any],
    classes: int,
    overlap: float = 0.5,
    similar: Sequence[Sequence[int]] = (),
    score: float | None = None,
) -> list[Errors]:
    """What is wrong with each class's boxes, of pictures as in ``tasks.average_precision``.

    Looked at are the best boxes of each class, as many as are there of it, or with ``score`` all of at least that
    score. ``similar`` are groups of class numbers that look alike. A wrong box is the first of these: a duplicate, on
    something of its class (overlap from 0.1 on), of a similar one, of any other; else it is of the background.

    Raises ArgumentError for what does not fit together, and for groups of numbers that are no classes.
    """
    if not NEAR < overlap <= 1:
        raise ArgumentError("overlap", overlap, f"an intersection over union above {NEAR} and at most 1")
    for group in similar:
        if any(not 0 <= label < classes for label in group):
            raise ArgumentError("similar", tuple(group), f"class numbers 0 to {classes - 1}")
    pictures = together(found, there, classes)
    alike = [
        sorted({each for group in similar if label in group for each in group} - {label}) for label in range(classes)
    ]
    return [_errors(pictures, label, overlap, alike[label], score) for label in range(classes)]


def _errors(pictures: list[Picture], label: int, overlap: float, alike: list[int], score: float | None) -> Errors:
    curve = curve_of(pictures, label, overlap)
    scores, kinds = [], []
    for picture in pictures:
        mine = numpy.flatnonzero(picture.labels == label)
        mine = mine[numpy.argsort(-picture.scores[mine], kind="stable")]
        if len(mine):
            scores.append(picture.scores[mine])
            kinds.append(_kinds(picture, mine, label, overlap, alike))
    names = ("right", "localisation", "duplicate", "similar", "other", "background")
    counts = dict.fromkeys(names, 0)
    if scores:
        all_scores, all_kinds = numpy.concatenate(scores), numpy.concatenate(kinds)
        order = numpy.argsort(-all_scores, kind="stable")
        order = order[all_kinds[order] != "ignored"]
        order = order[: curve.truths] if score is None else order[all_scores[order] >= score]
        counts = {name: int((all_kinds[order] == name).sum()) for name in names}
    return Errors(**counts, missed=curve.truths - counts["right"], truths=curve.truths)


def _kinds(picture: Picture, mine: Any, label: int, overlap: float, alike: list[int]) -> Any:
    """What each of a class's boxes in a picture is, by falling score."""
    same = picture.true_labels == label
    groups = {
        "localisation": same,
        "similar": numpy.isin(picture.true_labels, alike),
        "other": ~same & ~numpy.isin(picture.true_labels, alike),
    }
    kinds = numpy.full(len(mine), "background", dtype="U12")
    for name, theirs in reversed(groups.items()):
        if theirs.any():
            kinds[picture.overlaps(mine, theirs).max(1) >= NEAR] = name
    if same.any():
        taken = by_voc(picture.overlaps(mine, same), picture.difficult[same], overlap)
        hit, first = taken >= 0, numpy.zeros(len(mine), numpy.bool_)
        first[numpy.unique(taken, return_index=True)[1]] = True
        kinds[hit] = "duplicate"
        kinds[hit & first] = "right"
        kinds[hit & picture.difficult[same][taken]] = "ignored"
    return kinds
