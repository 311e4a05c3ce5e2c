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
