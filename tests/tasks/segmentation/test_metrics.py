"""Mean IoU and its relatives: by hand, against sums one pixel at a time, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from convscope import metrics
from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.models import create_model
from convscope.tasks.segmentation.metrics import Tally, mean_iou, regions
from convscope.tasks.segmentation.task import SegmentationObjective


def by_sets(answered: Tensor, targets: Tensor, classes: int) -> float:
    """Intersection over union of sets of places, one class after another."""
    places = [place for place, value in enumerate(targets.flatten().tolist()) if value != 255]
    own, true = answered.flatten().tolist(), targets.flatten().tolist()
    found = []
    for number in range(classes):
        one = {place for place in places if own[place] == number}
        other = {place for place in places if true[place] == number}
        if one | other:
            found.append(len(one & other) / len(one | other))
    return sum(found) / len(found)


def test_by_hand() -> None:
    """Class 0: 2 right, 1 taken for 1. Class 1: 1 right, 1 taken for 2. Class 2 is answered but not there."""
    targets, answered = torch.tensor([[0, 0, 0, 1, 1, 255]]), torch.tensor([[0, 0, 1, 1, 2, 0]])
    assert mean_iou(answered, targets, 3) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    found = regions(torch.tensor([[2, 1, 0], [0, 1, 1], [0, 0, 0]]))
    assert found.pixel_accuracy == pytest.approx(3 / 5)
    assert found.mean_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 2 * 1 / 3) / 5)
    assert math.isnan(found.accuracy[2])


@pytest.mark.parametrize("classes", [2, 5])
def test_against_sets_of_places(classes: int) -> None:
    chance = torch.Generator().manual_seed(classes)
    targets = torch.randint(0, classes, (3, 7, 5), generator=chance)
    answered = torch.randint(0, classes, (3, 7, 5), generator=chance)
    targets[0, :3] = 255
    assert mean_iou(answered, targets) == pytest.approx(by_sets(answered, targets, classes))
    assert metrics.mean_iou(answered.numpy(), targets.numpy()) == pytest.approx(by_sets(answered, targets, classes))


def test_a_class_that_is_neither_there_nor_answered_is_in_no_mean() -> None:
    targets = torch.tensor([[0, 1], [1, 0]])
    assert mean_iou(targets, targets, classes=7) == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    zeros = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ArgumentError, match=r"answered: got \(3,\), wanted the targets' shape, \(2, 3\)"):
        mean_iou(zeros[0], zeros)
    with pytest.raises(ArgumentError, match="answered: got torch.float32, wanted class numbers"):
        mean_iou(zeros.float(), zeros)
    with pytest.raises(ArgumentError, match="targets: got 'no pixel with a class'"):
        mean_iou(zeros, zeros + 255)
    with pytest.raises(ArgumentError, match="answered: got 4, wanted class numbers 0 … 2, or 255"):
        mean_iou(zeros + 4, zeros, classes=3)
    with pytest.raises(ArgumentError, match="targets: got -1, wanted class numbers"):
        mean_iou(zeros, zeros - 1)
    with pytest.raises(AttributeError, match="no attribute 'mean_oui'"):
        metrics.mean_oui  # noqa: B018


def test_the_tally_adds_up_pictures_not_means() -> None:
    chance = torch.Generator().manual_seed(2)
    scores = torch.randn(4, 3, 5, 6, generator=chance)
    targets = torch.randint(0, 3, (4, 5, 6), generator=chance)
    targets[0, 1:] = 255
    objective = SegmentationObjective(create_model("fcn8s", small=True, width=0.05, classes=3))
    tally = Tally(objective, ("a", "b", "c"))
    for part in (slice(0, 1), slice(1, 4)):
        tally.add(scores[part], Batch((scores[part],), targets[part], len(scores[part]), 1.0))
    figures = tally.figures()
    assert figures.mean_iou == pytest.approx(by_sets(scores.argmax(1), targets, 3))
    assert figures.pixels == int((targets != 255).sum())
    assert figures.loss == pytest.approx(float(objective.value(scores, targets)))
    assert figures.error == pytest.approx(1 - figures.pixel_accuracy)


def test_scores_that_are_no_numbers_are_wrong() -> None:
    scores = torch.zeros(1, 2, 1, 2)
    scores[:, 0] = 1.0
    scores[0, 1, 0, 1] = float("nan")
    tally = Tally(SegmentationObjective(create_model("fcn8s", small=True, width=0.05, classes=2)), ("a", "b"))
    for true in (0, 1):
        tally.add(scores, Batch((scores,), torch.full((1, 1, 2), true), 1, 2.0))
    assert tally.figures().confusion == ((1, 1), (2, 0))


def test_nothing_to_evaluate_on_is_said() -> None:
    with pytest.raises(ArgumentError, match="split: got '0 pictures, no pixel of a class"):
        Tally(SegmentationObjective(create_model("fcn8s", small=True, width=0.05, classes=2)), ("a", "b")).figures()
