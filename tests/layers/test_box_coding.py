"""Boxes as differences: the paper's own equations, one by one, and back again."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles import worst

from convscope.errors import ArgumentError
from convscope.layers.box_coding import DEVIATIONS, MOST, decode, encode


def boxes(count: int, seed: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    corner = 50 * torch.rand(count, 2, generator=chance, dtype=torch.float64)
    return torch.cat((corner, corner + 1 + 30 * torch.rand(count, 2, generator=chance, dtype=torch.float64)), 1)


def test_by_hand() -> None:
    """A box of 10×20 at (0, 0), a true one of 20×10 whose centre is 10 to the right and 5 up."""
    proposal, true = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 10]])
    expected = torch.tensor([[1.0, -0.25, math.log(2), -math.log(2)]])
    torch.testing.assert_close(encode(proposal, true), expected)
    torch.testing.assert_close(decode(proposal, expected), true)


@pytest.mark.parametrize("deviations", [(1.0, 1.0, 1.0, 1.0), DEVIATIONS])
def test_the_equations_one_by_one(deviations: tuple[float, ...]) -> None:
    proposals, true = boxes(17, 1), boxes(17, 2)
    found = encode(proposals, true, deviations)
    for row, (p, g) in enumerate(zip(proposals.tolist(), true.tolist(), strict=True)):
        (px, py, pw, ph), (gx, gy, gw, gh) = (
            ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (p, g)
        )
        d = ((gx - px) / pw, (gy - py) / ph, math.log(gw / pw), math.log(gh / ph))
        assert found[row].tolist() == pytest.approx([x / s for x, s in zip(d, deviations, strict=True)])
    assert worst(decode(proposals, found, deviations), true) < 1e-12
    assert worst(decode(proposals, 1.001 * found, deviations), true) > 1e-9


def test_a_wild_answer_stays_finite() -> None:
    found = decode(torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 1e4, 1e4]]))
    assert found.isfinite().all()
    assert float(found[0, 2] - found[0, 0]) == pytest.approx(16 * math.exp(MOST))


def test_no_boxes_are_no_boxes() -> None:
    nothing = torch.zeros(0, 4)
    assert encode(nothing, nothing).shape == decode(nothing, nothing).shape == (0, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"proposals: got \(3, 5\), wanted boxes of shape \(k, 4\)"):
        encode(torch.zeros(3, 5), torch.zeros(3, 5))
    with pytest.raises(ArgumentError, match=r"differences: got \(2, 4\), wanted one for each of the proposals"):
        decode(torch.zeros(3, 4), torch.zeros(2, 4))
