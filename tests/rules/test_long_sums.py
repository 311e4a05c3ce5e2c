"""Layers of very many products: the same sums, in another order."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convscope.rules import long_sums
from convscope.rules.conv import Conv

CASES: list[tuple[Conv, tuple[int, ...], tuple[int, ...]]] = [
    (Conv(2, padding=1), (1, 3, 17, 16), (33, 3, 3, 3)),
    (Conv(2, stride=(2, 3), padding=((0, 1), (2, 1))), (3, 17, 15, 20), (5, 17, 3, 4)),
    (Conv(2, dilation=2, groups=3), (2, 9, 16, 11), (6, 3, 3, 2)),
    (Conv(2, padding=2, padding_mode="reflect"), (1, 1, 9, 13), (4, 1, 5, 5)),
    (Conv(1, stride=3), (2, 4, 33), (6, 4, 5)),
    (Conv(3, stride=2, padding=1), (1, 2, 7, 6, 5), (3, 2, 3, 2, 3)),
]


def everything(rule: Conv, *tensors: torch.Tensor) -> list[torch.Tensor]:
    y, saved = rule.forward(*tensors)
    delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y.dtype)
    (delta_x,), gradients = rule.backward(saved, delta)
    assert delta_x is not None
    return [y, delta_x, gradients["weight"], gradients["bias"]]


def tensors(x: tuple[int, ...], k: tuple[int, ...]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in (x, k, k[:1])]


@pytest.mark.parametrize(("rule", "x", "k"), CASES)
def test_same_as_the_rule_in_float64(monkeypatch: pytest.MonkeyPatch, rule: Conv, x: Any, k: Any) -> None:
    wide = tensors(x, k)
    true = everything(rule, *wide)
    monkeypatch.setattr(long_sums, "LONG", 1)
    taken = []
    own = long_sums.correlate

    def noted(*given: Any) -> torch.Tensor:
        taken.append(given)
        return own(*given)

    monkeypatch.setattr(long_sums, "correlate", noted)
    found = everything(rule, *(part.float() for part in wide))
    assert taken
    for one, other in zip(found, true, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=2e-5)
    everything(rule, *wide)
    assert len(taken) == 1  # float64 keeps the sums as they are written


def test_a_layer_as_large_as_those_of_vgg16() -> None:
    rule, (x, k, b) = Conv(2, padding=1), tensors((1, 64, 40, 36), (48, 64, 3, 3))
    assert long_sums.are_long(x.float(), k.shape, (40, 36))
    for one, other in zip(everything(rule, x.float(), k.float(), b.float()), everything(rule, x, k, b), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=4e-4)  # 1440 products in a sum: eps·√1440·|sum|


def test_positions_that_no_window_reached_have_no_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_sums, "LONG", 1)
    found = everything(Conv(2, stride=2), *(part.float() for part in tensors((1, 1, 6, 7), (1, 1, 3, 3))))
    assert found[1].shape == (1, 1, 6, 7)
    assert found[1][..., 5, :].abs().max() == 0
    assert found[1][..., :5, :].abs().min() > 0


def test_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, wide = Conv(2, padding=1), tensors((1, 3, 8, 8), (4, 3, 3, 3))
    true = everything(rule, *wide)
    monkeypatch.setattr(long_sums, "LONG", 1)
    own = long_sums.full_correlation
    monkeypatch.setattr(long_sums, "full_correlation", lambda *given: own(*given) * 1.001)
    found = everything(rule, *(part.float() for part in wide))
    assert not torch.allclose(found[1].double(), true[1], rtol=2e-5, atol=2e-5)
