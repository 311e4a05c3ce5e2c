"""Precision over recall against plain loops written from the rules, and by hand; what is wrong with wrong boxes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy
import pytest

from convscope import metrics
from convscope.errors import ArgumentError
from convscope.tasks.average_precision import COCO_OVERLAPS, INTERPOLATIONS, average_precision, coco_figures, voc_curves
from convscope.tasks.detection_errors import errors_of

Box = list[float]


def iou(a: Box, b: Box) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    return wide * tall / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall)


def triples(side: Any) -> list[tuple[Box, int, Any]]:
    boxes, labels, last = side
    return list(zip(numpy.asarray(boxes).tolist(), labels, last, strict=True))


def plainly(hits: list[bool], total: int, interpolation: str) -> float:
    """From the definition: for every recall the best precision at it or beyond."""
    if not total:
        return math.nan
    points = [(sum(hits[:k]), sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]

    def best(recalled: float) -> float:
        return max((precision for right, precision in points if right >= recalled - 1e-7), default=0.0)

    if interpolation == "area":
        return sum(best(right) for right in range(1, total + 1)) / total
    steps = 10 if interpolation == "11point" else 100
    return sum(best(total * step / steps) for step in range(steps + 1)) / (steps + 1)


def voc_plainly(found: Any, there: Any, label: int, overlap: float, interpolation: str) -> float:
    truths = [[(box, hard) for box, kind, hard in triples(side) if kind == label] for side in there]
    rows = [
        (-score, picture, box)
        for picture, side in enumerate(found)
        for box, kind, score in triples(side)
        if kind == label
    ]
    used: set[tuple[int, int]] = set()
    hits = []
    for _, picture, box in sorted(rows, key=lambda row: row[0]):  # stable
        shares = [iou(box, each) for each, _ in truths[picture]]
        most = max(range(len(shares)), key=shares.__getitem__, default=-1)
        if most < 0 or shares[most] < overlap:
            hits.append(False)
        elif not truths[picture][most][1]:
            hits.append((picture, most) not in used)
            used.add((picture, most))
    return plainly(hits, sum(not hard for side in truths for _, hard in side), interpolation)


def coco_plainly(found: Any, there: Any, label: int, overlap: float) -> float:
    rows, total = [], 0
    for mine, theirs in zip(found, there, strict=True):
        truths = [(box, hard) for box, kind, hard in triples(theirs) if kind == label]
        total += sum(not hard for _, hard in truths)
        own = sorted(((-score, box) for box, kind, score in triples(mine) if kind == label), key=lambda row: row[0])[
            :100
        ]
        used = set()
        for minus, box in own:
            able = [(iou(box, each), k) for k, (each, hard) in enumerate(truths) if not hard and k not in used]
            share, most = max(able, default=(0.0, -1))
            if share >= overlap:
                used.add(most)
                rows.append((minus, True))
            elif not any(hard and iou(box, each) >= overlap for each, hard in truths):
                rows.append((minus, False))
    return plainly([hit for _, hit in sorted(rows, key=lambda row: row[0])], total, "101point")


def some(seed: int, pictures: int = 7, classes: int = 4) -> tuple[list[Any], list[Any]]:
    """Boxes near those that are there, some twice, some elsewhere; scores of few values, so that many are equal; the
    last class is nowhere, and in some pictures nothing is found or there."""
    draw = numpy.random.default_rng(seed)
    found, there = [], []
    for picture in range(pictures):
        m = 0 if picture == 1 else int(draw.integers(1, 7))
        corner = draw.integers(0, 8, (m, 2))
        boxes = numpy.concatenate((corner, corner + draw.integers(1, 6, (m, 2))), 1).astype(float)
        labels = draw.integers(0, classes - 1, m)
        there.append((boxes, labels, draw.random(m) < 0.25))
        again = draw.integers(0, m, 2 * m) if m else numpy.zeros(0, int)
        moved = boxes[again] + draw.integers(-1, 2, (2 * m, 4)) * draw.integers(0, 2, (2 * m, 1))
        stray = draw.integers(0, 5, (3, 2))
        moved = numpy.concatenate((moved, numpy.concatenate((stray, stray + 3), 1)))
        kinds = numpy.concatenate((labels[again], draw.integers(0, classes, 3)))
        kinds = numpy.where(draw.random(len(kinds)) < 0.2, draw.integers(0, classes, len(kinds)), kinds)
        moved[:, 2:] = numpy.maximum(moved[:, 2:], moved[:, :2])
        if picture == 2:
            moved, kinds = moved[:0], kinds[:0]
        found.append((moved, kinds, draw.integers(1, 9, len(kinds)) / 8))
    return found, there


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.75, 1.0])
def test_voc_by_loops(seed: int, overlap: float) -> None:
    found, there = some(seed)
    curves = voc_curves(found, there, 4, overlap)
    for interpolation in INTERPOLATIONS:
        for label, curve in enumerate(curves):
            wanted = voc_plainly(found, there, label, overlap, interpolation)
            assert curve.average_precision(interpolation) == pytest.approx(wanted, nan_ok=True, abs=1e-12)
    assert any(curve.right.any() for curve in curves)
    assert math.isnan(curves[3].average_precision())


@pytest.mark.parametrize("seed", range(6))
def test_coco_by_loops(seed: int) -> None:
    found, there = some(seed)
    figures = coco_figures(found, there, 4)
    table = [[coco_plainly(found, there, label, overlap) for overlap in COCO_OVERLAPS] for label in range(4)]
    assert figures.per_class == pytest.approx(numpy.mean(table, 1), nan_ok=True, abs=1e-12)
    assert figures.ap == pytest.approx(numpy.nanmean(table), abs=1e-12)
    assert figures.ap_50 == pytest.approx(numpy.nanmean([row[0] for row in table]), abs=1e-12)
    assert figures.ap_75 == pytest.approx(numpy.nanmean([row[5] for row in table]), abs=1e-12)
    assert 0 < figures.recall <= 1


def test_by_hand() -> None:
    """Three are there; right, wrong, right: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3."""
    box, elsewhere = [0.0, 0, 4, 4], [50.0, 50, 54, 54]
    there = [([box, [10.0, 0, 14, 4], [20.0, 0, 24, 4]], [0, 0, 0], [False] * 3)]
    found = [([box, elsewhere, [20.0, 0, 24, 4]], [0, 0, 0], [0.9, 0.8, 0.7])]
    (curve,) = voc_curves(found, there, 1)
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.average_precision() == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)
    assert curve.average_precision("11point") == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_a_second_box_on_the_same_thing_is_wrong_and_one_on_a_difficult_thing_is_nothing() -> None:
    box, hard = [0.0, 0, 4, 4], [10.0, 10, 14, 14]
    there = [([box, hard], [0, 0], [False, True])]
    found = [([hard, hard, box, box], [0] * 4, [0.9, 0.8, 0.7, 0.6])]
    (curve,) = voc_curves(found, there, 1)
    assert curve.right.tolist() == [True, False]
    assert curve.truths == 1
    assert coco_figures(found, there, 1).ap == 1


def test_a_taken_box_is_a_miss_by_voc_and_a_second_choice_by_coco() -> None:
    """Both found ones overlap the first most; the second of them overlaps the other enough."""
    there = [([[0.0, 0, 10, 10], [0.0, 3, 10, 13]], [0, 0], [False, False])]
    found = [([[0.0, 0, 10, 10], [0.0, 1, 10, 11]], [0, 0], [0.9, 0.8])]
    (curve,) = voc_curves(found, there, 1)
    assert curve.right.tolist() == [True, False]
    assert coco_figures(found, there, 1).ap_50 == 1


def test_recalls_are_met_whatever_the_rounding() -> None:
    """3 of 10 is 0.3, although 0.1 · 3 > 3 / 10 in floating point."""
    recall = numpy.arange(1, 11) / 10
    assert average_precision(recall, numpy.ones(10), "11point") == 1
    assert average_precision(recall[:3], numpy.ones(3), "11point") == pytest.approx(4 / 11)
    assert average_precision([], [], "area") == average_precision([], [], "11point") == 0


def test_nothing_found_and_nothing_there() -> None:
    nothing: Any = ([], [], [])
    one: Any = ([[0.0, 0, 4, 4]], [0], [False])
    assert [curve.average_precision() for curve in voc_curves([nothing], [one], 1)] == [0.0]
    assert math.isnan(voc_curves([nothing], [nothing], 1)[0].average_precision())
    figures = coco_figures([nothing], [nothing], 2)
    assert math.isnan(figures.ap)
    assert len(figures.per_class) == 2
    assert coco_figures([nothing], [one], 1).recall == 0


def test_what_is_wrong_with_wrong_boxes() -> None:
    """Classes cat, dog, car; cats and dogs look alike. One of each kind of mistake, by hand."""
    there = [([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], [0, 1, 2, 0], [False] * 3 + [True])]
    boxes = {
        "right": [0, 0, 10, 10], "duplicate": [0, 0, 10, 9], "localisation": [5, 5, 15, 15],
        "similar": [20, 0, 30, 5], "other": [40, 0, 50, 10], "background": [0, 80, 5, 90], "ignored": [60, 0, 70, 10],
    }  # fmt: skip
    found = [(list(boxes.values()), [0] * len(boxes), numpy.linspace(0.9, 0.3, len(boxes)))]
    cats = errors_of(found, there, 3, similar=[(0, 1)], score=0.1)[0]
    assert dataclasses.asdict(cats) == {
        "right": 1, "localisation": 1, "duplicate": 1, "similar": 1, "other": 1, "background": 1, "missed": 0,
        "truths": 1,
    }  # fmt: skip
    best = errors_of(found, there, 3)
    assert (best[0].right, best[0].duplicate) == (1, 0), "as many as are there"
    assert (best[1].truths, best[1].missed, best[1].right) == (1, 1, 0)
    assert errors_of(found, there, 3, score=0.1)[0].other == 2, "nothing looks alike"


@pytest.mark.parametrize("seed", range(4))
def test_the_mistakes_are_all_there_are(seed: int) -> None:
    found, there = some(seed)
    curves = voc_curves(found, there, 4)
    for errors, curve in zip(errors_of(found, there, 4, similar=[(0, 1)], score=0.0), curves, strict=True):
        counted = dataclasses.asdict(errors)
        wrong = sum(counted[name] for name in ("localisation", "duplicate", "similar", "other", "background"))
        assert errors.right == int(curve.right.sum())
        assert errors.right + wrong == len(curve.right)
        assert errors.missed == curve.truths - errors.right


def test_they_are_public() -> None:
    assert metrics.average_precision is average_precision
    assert metrics.voc_curves is voc_curves
    assert {"coco_figures", "errors_of", "mean_iou"} <= set(dir(metrics))


NOTHING: Any = ([], [], [])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: average_precision([0.5], [0.5], "12point"), "interpolation: got '12point', wanted one of area"),
        (lambda: average_precision([0.5, 0.6], [0.5]), r"precision: got \(1,\), wanted one for each recall"),
        (lambda: average_precision([0.5, 0.4], [1, 1]), "recall: got 'recalls that fall'"),
        (lambda: average_precision([1.5], [1]), "recall: got .*1.5"),
        (lambda: average_precision([0.5], [math.nan]), "precision: got .*nan"),
        (lambda: voc_curves([NOTHING], [], 1), "found: got '1 pictures'"),
        (lambda: voc_curves([([[0, 0, 1, 1]], [2], [0.5])], [NOTHING], 2), "labels of found: got '2 to 2 in"),
        (lambda: voc_curves([([[0, 0, 1, 1]], [0], [math.nan])], [NOTHING], 2), "scores: got 'nan in picture 0'"),
        (lambda: voc_curves([([[0, 0, 1]], [0], [0.5])], [NOTHING], 2), r"found: got '\(1, 3\)"),
        (lambda: voc_curves([([[0, 0, 1, 1]], [0])], [NOTHING], 2), "found: got '2 parts of picture 0'"),
        (lambda: voc_curves([NOTHING], [NOTHING], 1, overlap=0), "overlap: got 0"),
        (lambda: errors_of([NOTHING], [NOTHING], 1, overlap=0.1), "overlap: got 0.1"),
        (lambda: errors_of([NOTHING], [NOTHING], 2, similar=[(0, 2)]), r"similar: got \(0, 2\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(call: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        call()
