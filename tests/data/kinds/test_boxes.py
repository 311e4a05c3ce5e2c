from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.data.kinds.some import COUNT, SIZES, noise, some_boxes

from convscope.data.kinds.boxes import Boxes, BoxTargets
from convscope.data.picture_stores import PicturesInMemory
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError


def test_a_batch_has_its_pictures_boxes_one_picture_after_another(tmp_path: Path) -> None:
    examples = some_boxes(tmp_path)
    places = [6, 0, 3, 2]
    batch = examples.batch(torch.tensor(places))
    pictures, sizes = batch.inputs
    targets = batch.targets
    assert isinstance(targets, BoxTargets)
    assert pictures.shape == (4, 3, 7, 9)
    assert sizes.tolist() == [list(SIZES[place]) for place in places]
    assert targets.counts.tolist() == [place % 4 for place in places]
    assert targets.pictures().tolist() == [0, 0, 2, 2, 2, 3, 3]
    offset = [sum(k % 4 for k in range(place)) for place in places]
    for place, first, (boxes, labels, difficult) in zip(places, offset, targets.of_each(), strict=True):
        numbers = range(first, first + place % 4)
        assert boxes.tolist() == [[0.5 * j, 1, 2 + j, 3 + 0.25 * j] for j in range(place % 4)]
        assert labels.tolist() == [number % 3 for number in numbers]
        assert difficult.tolist() == [number % 3 == 1 for number in numbers]
    assert batch.weight == 4.0


def test_a_batch_without_any_box(tmp_path: Path) -> None:
    targets = some_boxes(tmp_path).batch(torch.tensor([0, 4])).targets
    assert targets.boxes.shape == (0, 4)
    assert [len(boxes) for boxes, _, _ in targets.of_each()] == [0, 0]


def test_only_boxes_of_some_classes(tmp_path: Path) -> None:
    examples = some_boxes(tmp_path)
    owls = examples.restrict(["owl", "cat"])
    assert len(owls) == COUNT
    assert owls.classes == ("owl", "cat")
    assert owls.counts() == [examples.counts()[2], examples.counts()[0]]
    before, after = (each.batch(torch.arange(COUNT)).targets for each in (examples, owls))
    for (boxes, labels, _), (kept, numbers, difficult) in zip(before.of_each(), after.of_each(), strict=True):
        chosen = labels != 1
        assert torch.equal(boxes[chosen], kept)
        names = [("cat", "dog", "owl")[label] for label in labels[chosen]]
        assert [("owl", "cat")[number] for number in numbers] == names
        assert not difficult.any()
    with pytest.raises(ArgumentError, match="classes: got 'cow', wanted names among cat, dog, owl"):
        examples.restrict(["cow"])


@pytest.mark.parametrize(
    "box",
    [[-1, 0, 2, 2], [0, 0, 9.5, 2], [0, 0, 2, 6], [2, 0, 2, 2], [0, 3, 2, 1], [0, 0, float("nan"), 2]],
)
def test_a_box_outside_its_picture_or_without_area_is_refused(box: list[float]) -> None:
    pictures = PicturesInMemory(noise([(5, 9), (20, 20)]))
    rows = Ragged.of([torch.tensor([[0, 0, 9, 5.0], box]), torch.tensor([[0, 0, 20, 20.0]])], torch.float32)
    with pytest.raises(ArgumentError, match="boxes: got .*, wanted x₁ < x₂ ≤ 9 and y₁ < y₂ ≤ 5, as its picture is 5×9"):
        Boxes(pictures, rows, torch.zeros(3, dtype=torch.int64), ("a",))


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    whole = some_boxes(tmp_path)
    with pytest.raises(ArgumentError, match="boxes: got 1, wanted a row for each of the 11 pictures"):
        dataclasses.replace(whole, boxes=Ragged.of([whole.boxes.values], torch.float32))
    with pytest.raises(ArgumentError, match=r"boxes: got \(15, 2\), wanted float32 boxes of shape \(k, 4\)"):
        dataclasses.replace(whole, boxes=Ragged(whole.boxes.values[:, :2], whole.boxes.offsets))
    with pytest.raises(ArgumentError, match="labels: got 14, wanted one for each of the 15 boxes"):
        dataclasses.replace(whole, labels=whole.labels[1:])
    with pytest.raises(ArgumentError, match="difficult: got 15, wanted a bool for each"):
        dataclasses.replace(whole, difficult=whole.labels)
    with pytest.raises(ArgumentError, match="labels: got 2, wanted class numbers 0 … 1"):
        dataclasses.replace(whole, classes=("a", "b"))
    grey = Boxes(PicturesInMemory(noise(SIZES, 1)), whole.boxes, whole.labels, whole.classes)
    with pytest.raises(ArgumentError, match="test: got 1, wanted pictures of train's 3 channels"):
        whole.check_test(grey)
