"""Scenes of digits, from pictures whose every pixel tells their class."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from convscope.data import load_dataset
from convscope.data.sources.digit_scenes import _scaled
from convscope.errors import ArgumentError, UnknownNameError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MNIST's files with pictures of one grey value each: 1 + 10·class, 100 more for the test part."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, start in (("train", 1), ("t10k", 101)):
        labels = numpy.arange(20, dtype=numpy.uint8) % 10
        images = numpy.broadcast_to((start + 10 * labels)[:, None, None], (20, 28, 28)).astype(numpy.uint8)
        head = numpy.array([2051, 20, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(numpy.array([2049, 20], ">i4").tobytes() + labels.tobytes())
    return tmp_path


def test_what_is_told_is_what_is_seen(root: Path) -> None:
    data = load_dataset("digit_scenes", root=root, train=40, test=10, seed=3)
    again = load_dataset("digit_scenes", root=root, train=40, test=10, seed=3)
    assert data.train.texts == again.train.texts
    assert {text.count("a ") for text in data.train.texts} == {1, 2, 3}
    for place, text in enumerate(data.train.texts):
        picture = data.train.pictures.picture(place)
        assert torch.equal(picture, again.train.pictures.picture(place))
        assert picture.shape == (1, 80, 80)
        told = [part.split() for part in text.split("a ")[1:]]
        middles = []
        for size, digit, *_ in told:
            rows, columns = (picture[0] == 1 + 10 * int(digit)).nonzero().T
            if [part[1] for part in told].count(digit) == 1:
                side = {"large": 24, "small": 14}[size]
                assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (side, side)
            middles.append((float(rows.float().mean()), float(columns.float().mean())))
        if len({part[1] for part in told}) < len(told):
            continue  # of twins none can be told from the other
        for (above, left), (below, right), (_, _, *relation) in zip(middles, middles[1:], told, strict=False):
            down, across = below - above, right - left
            if relation == ["above"]:
                assert down > abs(across) - 13
                assert down > 0
            else:
                assert across > 0 if relation == ["left", "of"] else across < 0
    assert int(data.train.pictures.stacked(torch.arange(40)).max()) <= 100
    assert all(int(data.test.pictures.picture(place).max()) > 100 for place in range(10)), "of test pictures alone"


def test_its_options(root: Path) -> None:
    chinese = load_dataset("digit_scenes", root=root, train=6, test=2, language="zh", most=1, seed=1)
    assert all(text.startswith("一个") and "是" not in text for text in chinese.train.texts)
    some = chinese.train.select(torch.tensor([4, 1]))
    assert torch.equal(some.pictures.picture(0), chinese.train.pictures.picture(4))
    other = load_dataset("digit_scenes", root=root, train=6, test=2, seed=2)
    assert other.train.texts != load_dataset("digit_scenes", root=root, train=6, test=2, seed=1).train.texts
    with pytest.raises(ArgumentError, match="most: got 4, wanted a number of digits from 1 to 3"):
        load_dataset("digit_scenes", root=root, most=4)
    with pytest.raises(ArgumentError, match="train: got 0, wanted an integer ≥ 1"):
        load_dataset("digit_scenes", root=root, train=0)
    with pytest.raises(UnknownNameError, match="language: got 'de'"):
        load_dataset("digit_scenes", root=root, language="de")


@pytest.mark.parametrize("side", [24, 14])
def test_scaling_is_the_mean_over_what_is_covered(side: int) -> None:
    """Against a picture enlarged by a common multiple and averaged."""
    picture = torch.randint(0, 256, (1, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    large = picture.double().repeat_interleave(side, 1).repeat_interleave(side, 2)[0]
    wanted = large.reshape(side, 28, side, 28).mean((1, 3))
    assert (_scaled(picture, side)[0].double() - wanted).abs().max() <= 0.5 + 1e-3
