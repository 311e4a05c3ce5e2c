"""Ink on paper: whatever the light and the place, the network gets what it would get of white ink on black."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from convscope.explorer.inputs import Desk, Picture
from convscope.inspect.inputs import InputOfModel
from convscope.spec import Preprocessing

DESK = Desk(InputOfModel((1, 28, 28), Preprocessing(1, (28, 28), (0.13,), (0.31,)), "model"), None)


def photographed(top: int, left: int, slope: float) -> Picture:
    """A heavy "L" on a sheet of 120×160, the light falling from the left."""
    ink = np.zeros((120, 160))
    ink[top : top + 60, left : left + 12] = 1
    ink[top + 48 : top + 60, left : left + 40] = 1
    sheet = 235 - slope * np.arange(160)[None] / 160
    file = io.BytesIO()
    Image.fromarray((sheet * (1 - ink) + 30 * ink).round().astype(np.uint8)).save(file, "PNG")
    return DESK.from_file(file.getvalue())


@pytest.mark.parametrize(("top", "left", "slope"), [(5, 10, 0.0), (50, 100, 0.0), (30, 5, 90.0), (30, 110, 90.0)])
def test_where_it_stands_and_how_it_is_lit_makes_no_difference(top: int, left: int, slope: float) -> None:
    picture = photographed(top, left, slope)
    assert [stage.name for stage in picture.stages] == ["original", "inverted", "centred", "size", "normalise"]
    seen = picture.pixels[0, 0].numpy().astype(float)
    rows, _ = np.nonzero(seen > 128)
    assert rows.max() - rows.min() + 1 == pytest.approx(20, abs=1)  # as high as a digit of MNIST
    middle = [(seen.sum(1 - d) * np.arange(28)).sum() / seen.sum() for d in (0, 1)]
    assert middle == pytest.approx([13.5, 13.5], abs=1.0)  # the centre of mass
    even = photographed(30, 40, 0.0).pixels[0, 0].numpy().astype(float)
    assert np.abs(seen - even).mean() < 6


def written(ink: np.ndarray, mode: str) -> Picture:
    """Ink (rows, columns), 0 … 1, as a file."""
    grey = (255 * ink).astype(np.uint8)
    rows, columns = np.mgrid[: ink.shape[0], : ink.shape[1]] / np.array(ink.shape)[:, None, None]
    light = 95 + 90 * columns + 50 * rows  # from a lamp at one corner
    clear = np.full((*ink.shape, 4), 255, np.uint8)
    clear[..., 3] = grey
    pictures = {"white on black": grey, "white on nothing": clear, "under a lamp": light * (1 - 0.8 * ink)}
    file = io.BytesIO()
    Image.fromarray(pictures[mode].astype(np.uint8)).save(file, "PNG")
    return DESK.from_file(file.getvalue())


@pytest.mark.parametrize("side", [14, 160, 600])
@pytest.mark.parametrize("mode", ["white on black", "white on nothing", "under a lamp"])
def test_whatever_it_is_written_on_it_is_found_and_made_as_large_as_a_digit(mode: str, side: int) -> None:
    ink = np.zeros((side, side * 5 // 4))
    ink[side // 7 : side // 7 + side // 2, side // 10 : side // 10 + max(1, side // 8)] = 1
    ink[side // 7 + side // 2 - max(1, side // 10) : side // 7 + side // 2, side // 10 : side // 2] = 1
    picture = written(ink, mode)
    names = [stage.name for stage in picture.stages]
    assert "centred" in names
    assert ("inverted" in names) == (mode == "under a lamp")
    assert ("on_black" in names) == (mode == "white on nothing")
    seen = picture.pixels[0, 0].numpy().astype(float)
    rows, _ = np.nonzero(seen > 128)
    assert rows.max() - rows.min() + 1 == pytest.approx(20, abs=2)
    middle = [(seen.sum(1 - d) * np.arange(28)).sum() / seen.sum() for d in (0, 1)]
    assert middle == pytest.approx([13.5, 13.5], abs=1.2)
    assert float(np.median(seen)) < 10  # the ground is black


def test_a_picture_of_the_model_s_own_size_stays_as_it_is() -> None:
    ink = np.zeros((28, 28))
    ink[2:9, 3:6] = 1
    picture = written(ink, "white on black")
    assert [stage.name for stage in picture.stages] == ["original", "normalise"]
    assert np.array_equal(picture.pixels[0, 0].numpy(), (255 * ink).astype(np.uint8))
