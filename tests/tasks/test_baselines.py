"""The baselines learn, the same by the same seed; deskewed pictures have no slant left."""

from __future__ import annotations

import pytest
import torch

from convscope.data import Dataset, Labelled, load_dataset
from convscope.errors import ArgumentError, UnknownNameError
from convscope.tasks.baselines import BASELINES, as_rows, deskew, measure


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_dataset("digits")
    return Dataset("digits", data.train.select(torch.arange(600)), data.test.select(torch.arange(200)))


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_each_learns(name: str, digits: Dataset) -> None:
    found = measure(name, digits.train, digits.test, seed=1)
    assert found["error"] < 0.2
    assert found["error"] > 0 or name in ("gaussian", "neighbours")
    strangers = digits.train.labels[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    guessed = Labelled(digits.train.images, strangers, digits.train.classes)
    if name in ("linear", "neighbours"):
        assert measure(name, guessed, digits.test)["error"] > 0.7


def slant(image: torch.Tensor) -> float:
    weights = image[0].double()
    y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in weights.shape), indexing="ij")
    total = weights.sum()
    mean_y, mean_x = (weights * y).sum() / total, (weights * x).sum() / total
    return float((weights * (y - mean_y) * (x - mean_x)).sum() / (weights * (y - mean_y).square()).sum())


def test_deskewed_bars_stand_upright() -> None:
    images = torch.zeros(3, 1, 20, 21, dtype=torch.uint8)
    for row in range(3, 17):
        images[0, 0, row, 4 + row // 2 : 7 + row // 2] = 200  # leans by half a column a row
        images[1, 0, row, 10:13] = 200  # upright already
    found = deskew(images)
    assert abs(slant(images[0])) > 0.45
    assert abs(slant(found[0])) < 0.02
    assert torch.equal(found[1], images[1])
    assert torch.equal(found[2], images[2])  # blank
    assert found[0].sum().item() == pytest.approx(images[0].sum().item(), rel=0.01)


def test_what_cannot_be_is_refused(digits: Dataset) -> None:
    with pytest.raises(UnknownNameError, match="baseline: got 'gausian'.*gaussian"):
        measure("gausian", digits.train, digits.test)
    zeros = digits.train.select(torch.nonzero(digits.train.labels == 0).flatten())
    with pytest.raises(ArgumentError, match="train: got 'pictures of one class'"):
        measure("linear", zeros, digits.test)
    with pytest.raises(ArgumentError, match="images: got .*, wanted grey pictures"):
        deskew(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    rows = as_rows(digits.test.images)
    assert rows.shape == (200, 64)
    assert rows.max() <= 1
