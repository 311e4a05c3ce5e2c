"""Boxes and maps go where their pictures go."""

from __future__ import annotations

import pytest
import torch

from convscope import seeding
from convscope.data import Batch, BoxTargets, augmenting
from convscope.data.augment import parse_augmentation

EXACT = ("flip:1", "crop:6", "flip,crop:3")
SAMPLED = ("translate:5", "rotate:25", "scale:0.3", "stretch:0.3", "shear:15", "rotate:20,scale:0.2,flip,crop:2")
BENT = ("elastic:20:4", "rotate:10,elastic:30:5")
SIZE = (40, 52)
COLOURS = (255, 128)  # of the two rectangles of each picture


def scenes(count: int) -> Batch:
    """Two rectangles a picture, away from each other and from the edges."""
    pictures = torch.zeros((count, 1, *SIZE), dtype=torch.uint8)
    boxes = []
    for place in range(count):
        for number, value in enumerate(COLOURS):
            x1, y1 = 6 + 25 * number + place % 3, 8 + place % 5
            x2, y2 = x1 + 9 + place % 4, y1 + 14 - place % 2
            pictures[place, 0, y1:y2, x1:x2] = value
            boxes.append([x1, y1, x2, y2])
    labels = torch.arange(2).repeat(count)
    targets = BoxTargets(torch.tensor(boxes).float(), labels, labels == 1, torch.full((count,), 2))
    return Batch((pictures, torch.tensor([SIZE]).repeat(count, 1)), targets, count, float(count))


@pytest.mark.parametrize("text", [*EXACT, *SAMPLED, *BENT])
def test_rectangles_are_where_the_boxes_say(text: str) -> None:
    batch = scenes(24)
    augmentation = parse_augmentation(text)
    moved = augmenting(augmentation).call(batch, seeding.generator(1, text))
    plain = augmentation(batch.inputs[0], seeding.generator(1, text))
    assert torch.equal(moved.inputs[0], plain)  # the pictures' own result is what it was
    tolerance = 0.0 if text in EXACT else 1.0  # interpolation blurs an edge by a pixel
    seen = 0
    for place, (boxes, labels, difficult) in enumerate(moved.targets.of_each()):
        assert torch.equal(difficult, labels == 1)
        for box, label in zip(boxes, labels.tolist(), strict=True):
            if text in EXACT:
                inside = plain[place, 0] == COLOURS[label]
            else:  # more than half of the rectangle's own colour; the fainter one is told from the other's blurred edge
                half = torch.zeros((1, 1, *SIZE), dtype=torch.uint8)
                source = batch.inputs[0][place : place + 1]
                half[source == COLOURS[label]] = 255
                alone = batch.inputs[0].clone()
                alone[place : place + 1] = half
                inside = augmentation(alone, seeding.generator(1, text))[place, 0] > 127
            rows, columns = torch.nonzero(inside.any(1)).flatten(), torch.nonzero(inside.any(0)).flatten()
            wanted = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
            assert float((box - wanted).abs().max()) <= tolerance + 0.51 * (text not in EXACT)
            seen += 1
    assert seen >= 40
    assert moved.targets.counts.sum() == len(moved.targets.boxes) == seen


def test_what_has_left_the_picture_is_dropped() -> None:
    batch = scenes(30)
    moved = augmenting(parse_augmentation("crop:30")).call(batch, seeding.generator(2, "x"))
    kept = moved.targets
    assert 0 < len(kept.boxes) < 60
    for boxes, labels, _ in kept.of_each():
        assert len(boxes) == len(labels)
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= SIZE[1]).all()
        assert (boxes[:, 3] <= SIZE[0]).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    present = [int((moved.inputs[0][place] == value).any()) for place in range(30) for value in COLOURS]
    assert sum(present) == len(kept.boxes)


@pytest.mark.parametrize("text", [*EXACT, *SAMPLED, *BENT, "brightness:0.3"])
def test_maps_move_by_the_nearest_pixel_and_are_ignored_outside(text: str) -> None:
    chance = torch.Generator().manual_seed(4)
    maps = torch.randint(0, 5, (6, *SIZE), generator=chance)
    places = torch.arange(SIZE[0] * SIZE[1]).reshape(1, 1, *SIZE)
    pictures = (places % 251).to(torch.uint8).repeat(6, 1, 1, 1)
    batch = Batch((pictures,), maps, 6, 6.0)
    augmentation = parse_augmentation(text)
    moved = augmenting(augmentation, ignored=255).call(batch, seeding.generator(1, text))
    assert torch.equal(moved.inputs[0], augmentation(pictures, seeding.generator(1, text)))
    assert set(moved.targets.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    if text in EXACT:  # each class as a picture of its own must land where its pixels say
        for number in range(5):
            alone = ((maps == number) * 255).to(torch.uint8).unsqueeze(1)
            there = augmentation(alone, seeding.generator(1, text))[:, 0] == 255
            assert torch.equal(moved.targets == number, there)
    elif text == "brightness:0.3":
        assert torch.equal(moved.targets, maps)
    else:  # where a class is surrounded by itself, bilinear sampling gives it whole
        blocks = torch.randint(0, 5, (6, 5, 7), generator=chance).repeat_interleave(8, 1).repeat_interleave(8, 2)
        blocks = blocks[:, : SIZE[0], : SIZE[1]].contiguous()
        landed = augmenting(augmentation, ignored=255).call(
            Batch((pictures,), blocks, 6, 6.0), seeding.generator(1, text)
        )
        certain = 0
        for number in range(5):
            alone = ((blocks == number) * 255).to(torch.uint8).unsqueeze(1)
            whole = augmentation(alone, seeding.generator(1, text))[:, 0]
            assert (landed.targets[whole == 255] == number).all()
            assert (landed.targets[whole == 0] != number).all()
            certain += int((whole == 255).sum())
        assert certain > 6 * SIZE[0] * SIZE[1] * 0.3
