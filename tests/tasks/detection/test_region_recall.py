"""What regions reach, by hand and against a plain count; the curve and its table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from convscope.tasks.detection.region_recall import COUNTS, OVERLAPS, RegionRecall, draw, line


def test_by_hand() -> None:
    """A thing that the second region covers by 0.6, one that nothing covers, a difficult one that does not count."""
    kept = RegionRecall()
    regions = torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 6], [0, 0, 10, 5]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [80, 80, 90, 90], [50, 50, 60, 60]])
    kept.add(regions, boxes, torch.tensor([False, False, True]))
    kept.add(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool))
    found = kept.figures()
    assert found["counts"] == [1, 3]
    assert found["overlaps"][:3] == [0.5, 0.55, 0.6]
    assert found["recall"][0] == [0.0] * len(OVERLAPS)
    assert found["recall"][1] == [0.5] * 3 + [0.0] * 8
    assert line(found) == "at 0.5 50.0%, at 0.7 0.0% of the boxes, by up to 3 regions"
    kept.add(torch.zeros(0, 4), torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([False]))
    assert kept.figures()["recall"][1][0] == pytest.approx(1 / 3)
    assert RegionRecall().figures() == {}


def test_against_a_plain_count(tmp_path: Path) -> None:
    chance = torch.Generator().manual_seed(0)
    kept, pictures = RegionRecall(), []
    for many in (5, 40, 120):
        corner = 50 * torch.rand(many, 2, generator=chance)
        regions = torch.cat((corner, corner + 5 + 30 * torch.rand(many, 2, generator=chance)), 1)
        things = regions[torch.randperm(many, generator=chance)[:4]] + 6 * torch.rand(4, 4, generator=chance)
        kept.add(regions, things, torch.zeros(4, dtype=torch.bool))
        pictures.append((regions.tolist(), things.tolist()))
    found = kept.figures()
    assert found["counts"] == [*(count for count in COUNTS if count < 120), 120]
    for count, row in zip(found["counts"], found["recall"], strict=True):
        for overlap, share in zip(OVERLAPS, row, strict=True):
            reached = total = 0
            for own, there in pictures:
                for thing in there:
                    total += 1
                    reached += any(_iou(thing, each) >= overlap - 1e-6 for each in own[:count])
            assert share == pytest.approx(reached / total)
    draw(tmp_path, "a network", found)
    with Image.open(tmp_path / "regions.png") as picture:
        assert picture.size[0] > 600
    rows = list(csv.reader((tmp_path / "regions.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0][:2] == ["regions", "recall at 0.5"]
    assert [int(row[0]) for row in rows[1:]] == found["counts"]
    assert float(rows[-1][1]) == pytest.approx(found["recall"][-1][0], abs=1e-6)


def _iou(one: list[float], other: list[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    if min(wide, tall) <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * tall / (areas - wide * tall)
