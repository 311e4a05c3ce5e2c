"""The loss of token after token."""

from __future__ import annotations

import pytest
import torch
from tests.oracles import slope, worst
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules.token_loss import smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("ignored", [None, 0])
def test_as_torch_has_it(smoothing: float, ignored: int | None) -> None:
    y = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    t = torch.randint(0, 7, (3, 5))
    t[0, 2:] = 0
    index = -100 if ignored is None else ignored
    expected = F.cross_entropy(y.flatten(0, 1), t.flatten(), ignore_index=index, label_smoothing=smoothing)
    (wanted,) = torch.autograd.grad(expected, y)
    value, delta = smoothed_cross_entropy(y.detach(), t, smoothing, ignored)
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert worst(delta, wanted) < 1e-12
    direction = torch.randn_like(delta)
    numeric = slope(lambda moved: smoothed_cross_entropy(moved, t, smoothing, ignored)[0], y.detach(), direction)
    assert numeric == pytest.approx(float((delta * direction).sum()), rel=1e-7, abs=1e-9)


def test_large_logits_do_not_overflow() -> None:
    value, delta = smoothed_cross_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert float(value) == 1e4
    assert delta.tolist() == [[1, -1]]


def test_what_cannot_be_is_refused() -> None:
    y = torch.zeros(2, 3, 4)
    with pytest.raises(ArgumentError, match=r"targets: .*wanted token numbers of shape \(2, 3\)"):
        smoothed_cross_entropy(y, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="targets: got '6 tokens, all of them 0', wanted at least one token"):
        smoothed_cross_entropy(y, torch.zeros(2, 3, dtype=torch.int64), ignored=0)
    with pytest.raises(ArgumentError, match="targets: got 4, wanted tokens from 0 to 3"):
        smoothed_cross_entropy(y, torch.full((2, 3), 4))
    with pytest.raises(ArgumentError, match="smoothing: got 1.5, wanted a share"):
        smoothed_cross_entropy(y, torch.ones(2, 3, dtype=torch.int64), 1.5)
