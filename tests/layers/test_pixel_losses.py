"""Cross-entropy of every pixel: ignored pixels, class balance, the rule against autograd and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles import slope, worst

from convscope.errors import ArgumentError
from convscope.layers import PixelCrossEntropy


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    y = 3 * torch.randn(3, 4, 5, 7, dtype=torch.float64, generator=chance)
    t = torch.randint(0, 5, (3, 5, 7), generator=chance)
    return y, torch.where(t == 4, 255, t)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 3.0)])
def test_the_rule_is_autograds(weights: tuple[float, ...] | None) -> None:
    loss = PixelCrossEntropy(weights=weights)
    y, t = draw()
    leaf = y.clone().requires_grad_()
    value = loss.value(leaf, t)
    value.backward()  # type: ignore[no-untyped-call]
    own, delta = loss.value_and_delta(y, t)
    assert isinstance(delta, torch.Tensor)
    assert leaf.grad is not None
    assert own.item() == pytest.approx(value.item(), rel=1e-12)
    assert worst(delta, leaf.grad) < 1e-12
    assert not delta.permute(0, 2, 3, 1)[t == 255].any()
    direction = torch.randn_like(y)
    measured = slope(lambda at: loss.value(at, t), y, direction)
    assert float((delta * direction).sum()) == pytest.approx(measured, rel=1e-6)


def test_by_hand() -> None:
    y = torch.zeros(1, 2, 1, 3, dtype=torch.float64)
    y[0, 0, 0, 0] = 2.0
    t = torch.tensor([[[0, 1, 9]]])
    whole = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert PixelCrossEntropy(9).value(y, t).item() == pytest.approx(whole)
    weighed = (3 * math.log1p(math.exp(-2)) + 0.5 * math.log(2)) / 2
    assert PixelCrossEntropy(9, (3.0, 0.5)).value(y, t).item() == pytest.approx(weighed)


def test_nothing_but_ignored_pixels_costs_nothing() -> None:
    y, t = draw()
    value, delta = PixelCrossEntropy().value_and_delta(y, torch.full_like(t, 255))
    assert value == 0
    assert not delta.any()  # type: ignore[union-attr]
    assert PixelCrossEntropy().value(y, torch.full_like(t, 255)) == 0


def test_what_does_not_fit_is_refused() -> None:
    y, t = draw()
    for loss in (PixelCrossEntropy().value, PixelCrossEntropy().value_and_delta):
        with pytest.raises(ArgumentError, match=r"targets: got .*wanted class indices \(n, h, w\)"):
            loss(y, t[:, 0])
    with pytest.raises(ArgumentError, match="targets: got 4, wanted classes from 0 to 3, or 255"):
        PixelCrossEntropy().value_and_delta(y, torch.full_like(t, 4))
    with pytest.raises(ArgumentError, match="weights: got 2, wanted one for each of the 4 classes"):
        PixelCrossEntropy(weights=(1.0, 2.0)).value(y, t)
