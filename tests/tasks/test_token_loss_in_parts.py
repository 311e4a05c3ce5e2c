"""The loss of tokens in parts, beside torch's, the rule's and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from convscope.rules.token_loss import smoothed_cross_entropy
from convscope.tasks import token_loss_in_parts as parts
from convscope.tasks.token_objective import TokenObjective


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("together", [1, 40, 1 << 18])
def test_loss_and_gradient_are_torchs_and_the_rules(
    smoothing: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_NUMBERS", together)
    torch.manual_seed(0)
    y = (torch.randn(17, 13, dtype=torch.float64) * 30).requires_grad_()
    t = torch.randint(0, 13, (17,))
    t[::5] = 0
    value = parts.TokenLoss.apply(y, t, smoothing, 0)  # type: ignore[no-untyped-call]
    wanted = F.cross_entropy(y, t, ignore_index=0, label_smoothing=smoothing)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=0)
    (found,) = torch.autograd.grad(3 * value, y)
    (exact,) = torch.autograd.grad(3 * wanted, y)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-14)
    ruled, delta = smoothed_cross_entropy(y.detach(), t, smoothing, 0)
    torch.testing.assert_close(value.detach(), ruled, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, 3 * delta, rtol=1e-9, atol=1e-14)
    assert torch.autograd.gradcheck(lambda y: parts.TokenLoss.apply(y / 30, t, smoothing, 0), y)  # type: ignore[no-untyped-call]


def test_nothing_to_foretell_has_no_loss_and_moves_nothing() -> None:
    y = torch.randn(3, 5, requires_grad=True)
    value = parts.TokenLoss.apply(y, torch.zeros(3, dtype=torch.int64), 0.1, 0)  # type: ignore[no-untyped-call]
    assert value.isnan()
    value.backward()
    assert y.grad is not None
    assert not y.grad.any()


def test_reduced_precision_is_summed_in_float32() -> None:
    y = torch.randn(2, 3, 70).bfloat16().requires_grad_()
    t = torch.tensor([[1, 2, 0], [69, 3, 3]])
    value = TokenObjective(0.1).value(y, t)
    wanted = F.cross_entropy(y.detach().float().flatten(0, 1), t.flatten(), ignore_index=0, label_smoothing=0.1)
    torch.testing.assert_close(value.detach(), wanted)
    value.backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None
    assert y.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("tokens", [1, 63, 64, 127, 128, 129, 191, 193, 1000])
def test_the_likeliest_token_is_argmaxs_also_of_equals(tokens: int) -> None:
    torch.manual_seed(tokens)
    for levels in (2, 5, 1 << 20):  # of few levels many are equal
        scores = torch.randint(0, levels, (4, 7, tokens)).float()
        assert parts.likeliest(scores).equal(scores.argmax(-1))
    last = torch.zeros(2, tokens)
    last[:, -1] = 1
    assert parts.likeliest(last).tolist() == [tokens - 1] * 2
