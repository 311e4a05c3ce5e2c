"""Anchors: the paper's own, and where they are."""

from __future__ import annotations

import pytest
import torch

from convscope.errors import ArgumentError
from convscope.layers.anchors import anchors, shapes


def test_the_papers_nine() -> None:
    """Areas of 128², 256² and 512² and ratios 1:1, 1:2 and 2:1, in table 1 of the paper rounded to whole cells."""
    found = shapes((128, 256, 512), (0.5, 1.0, 2.0))
    assert found.shape == (9, 2)
    torch.testing.assert_close(found.prod(1), torch.tensor([128.0**2] * 3 + [256.0**2] * 3 + [512.0**2] * 3).double())
    torch.testing.assert_close(found[:, 1] / found[:, 0], torch.tensor([0.5, 1, 2] * 3).double())


def test_where_they_are() -> None:
    own = torch.tensor([[4.0, 2.0], [8.0, 8.0]])
    found = anchors(own, 16, 2, 3)
    assert found.shape == (2 * 3 * 2, 4)
    for place in range(12):
        row, column, shape = place // 6, place // 2 % 3, place % 2
        (wide, tall), x, y = own[shape].tolist(), 16 * column + 8, 16 * row + 8
        assert found[place].tolist() == [x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2]


@pytest.mark.parametrize("sizes", [(), (0.0,), (-3.0, 5.0)])
def test_sizes_that_are_none(sizes: tuple[float, ...]) -> None:
    with pytest.raises(ArgumentError, match="sizes: got .*, wanted numbers > 0, at least one"):
        shapes(sizes, (1.0,))
    with pytest.raises(ArgumentError, match="ratios: got .*, wanted numbers > 0, at least one"):
        shapes((1.0,), sizes)
