"""Figures made equally wide: the mixing matrices beside a loop over pixels, and the rounding."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import Tensor

from convscope.data import prepare
from convscope.data.transforms import normalise_width
from convscope.layers import FigureWidth
from convscope.rules.figure_width import EqualWidth, mixing_matrices
from convscope.spec import Preprocessing


def pictures(count: int = 5, size: tuple[int, int] = (6, 11)) -> Tensor:
    """Grey figures of other widths at other places, the last picture blank."""
    chance = torch.Generator().manual_seed(4)
    x = torch.zeros(count, 1, *size, dtype=torch.uint8)
    for place in range(count - 1):
        left, right = place % 4, min(2 * place + 3, size[1])
        figure = torch.randint(1, 256, (1, 4, right - left), generator=chance, dtype=torch.uint8)
        x[place, :, 1:5, left:right] = figure
    return x


def naive(picture: numpy.ndarray, width: int) -> numpy.ndarray:
    """(h, w) in float64: every pixel of the result looked up between two columns of the source."""
    columns = picture.shape[1]
    inked = numpy.flatnonzero(picture.max(0) > 0)
    if not len(inked):
        return picture
    left, right = inked[0], inked[-1]
    middle = (left + right) / 2
    room = max((columns - width) / 2, 0)
    target = min(max(middle, (columns - 1) / 2 - room), (columns - 1) / 2 + room)
    result = numpy.zeros_like(picture)
    for column in range(columns):
        source = (right - left + 1) / width * (column - target) + middle
        for near in (int(numpy.floor(source)), int(numpy.floor(source)) + 1):
            if 0 <= near < columns:
                result[:, column] += (1 - abs(source - near)) * picture[:, near]
    return result


@pytest.mark.parametrize("width", [1, 4, 8, 11])
def test_it_is_the_loop_over_pixels(width: int) -> None:
    x = pictures().to(torch.float64) / 255
    found, _ = EqualWidth(width).forward(x)
    expected = numpy.stack([naive(each[0].numpy(), width) for each in x])
    assert numpy.abs(found[:, 0].numpy() - expected).max() < 1e-12
    assert numpy.abs(FigureWidth(width)(x)[:, 0].numpy() - expected).max() < 1e-12


def test_its_delta_is_the_finite_difference() -> None:
    """Where no edge moves: inside a figure whose outermost columns are inked anyway."""
    x = pictures().to(torch.float64) / 255
    rule = EqualWidth(7)
    y, saved = rule.forward(x)
    delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,), _ = rule.backward(saved, delta)
    assert found is not None
    for place in ((2, 0, 3, 3), (3, 0, 2, 5)):
        moved = x.clone()
        moved[place] += 1e-6
        slope = float(((rule.forward(moved)[0] - y) * delta).sum()) / 1e-6
        assert float(found[place]) == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("width", [3, 6, 10])
def test_pixels_and_the_layer_agree_to_the_last_bit(width: int) -> None:
    x = pictures(12, (9, 17))
    as_pixels = normalise_width(x, width)
    as_layer = FigureWidth(width, levels=255)(x.float() / 255)
    assert torch.equal((as_layer * 255).round().to(torch.uint8), as_pixels)
    assert torch.equal(prepare(x, Preprocessing(1, (9, 17), (0.0,), (1.0,), width=width)), as_pixels)
    ruled, _ = EqualWidth(width, levels=255).forward(x.float() / 255)
    assert torch.equal(ruled, as_layer)


def test_the_rounding_lets_delta_through() -> None:
    x = (pictures().float() / 255).requires_grad_()
    FigureWidth(5, levels=255)(x).sum().backward()
    assert x.grad is not None
    mixing = mixing_matrices(x, 5)
    assert torch.allclose(x.grad, mixing.sum(2)[:, None, None].expand_as(x.grad))


def test_other_than_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x: got \(3, 4\), wanted pictures"):
        EqualWidth(3).forward(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="width: got 12, wanted a figure's width from 1 to 11"):
        Preprocessing(1, (6, 11), (0.0,), (1.0,), width=12)
