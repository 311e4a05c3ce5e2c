"""Attention: additive, dot-product, of several heads; masks of every kind."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from tests.oracles import check_model, check_rule, worst
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules.attention import AdditiveAttention, DotProductAttention, MultiHeadAttention


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_hand_worked() -> None:
    """Scores ln 3 and 0 share out three quarters and one quarter."""
    q, k = torch.tensor([[math.log(3.0)]], dtype=torch.float64), torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    y, saved = DotProductAttention().forward(q, k, torch.tensor([[8.0], [4.0]], dtype=torch.float64))
    assert y.tolist() == [[pytest.approx(7)]]
    (to_q, to_k, to_v, _), _ = DotProductAttention().backward(saved, torch.ones(1, 1, dtype=torch.float64))
    assert to_v is not None
    assert to_v.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert to_q is not None
    assert float(to_q) == pytest.approx(0.75 * 0.25 * (8 - 4))
    assert to_k is not None
    assert to_k.flatten().tolist() == pytest.approx([math.log(3) * 0.75, -math.log(3) * 0.75])


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 1, 5, 7), (2, 3, 5, 7)])
def test_dot_product_with_an_added_mask(shape: tuple[int, ...]) -> None:
    tensors = [drawn(2, 3, 5, 4), drawn(2, 3, 7, 4), drawn(2, 3, 7, 3), drawn(*shape)]
    check_rule(DotProductAttention(), F.scaled_dot_product_attention, tensors)


class Called(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, **self.options)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_dot_product_as_torch_has_it(leading: tuple[int, ...], options: dict[str, Any]) -> None:
    tensors = [drawn(*leading, 5, 4), drawn(*leading, 7, 4), drawn(*leading, 7, 3)]
    check_model(Called(**options), *tensors, expected_rules=1)


def test_dot_product_where_nothing_is_to_be_seen() -> None:
    """A query without any key answers 0 and has no gradient, as torch has it; never nan."""
    mask = torch.rand(2, 1, 5, 7) < 0.5
    mask[0, 0, 2] = False
    model = Called(attn_mask=mask)
    ran = check_model(model, drawn(2, 3, 5, 4), drawn(2, 3, 7, 4), drawn(2, 3, 7, 3), expected_rules=1)
    assert not ran.output[0, :, 2].any()
    check_model(Called(dropout_p=0.3), drawn(2, 3, 5, 4), drawn(2, 3, 7, 4), drawn(2, 3, 7, 3), expected_rules=1)


class Attending(nn.Module):
    """torch's layer with masks."""

    def __init__(self, options: dict[str, Any], call: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.attention = nn.MultiheadAttention(6, 3, **options)
        for each in self.attention.parameters():
            nn.init.normal_(each, std=0.5)
        self.call = call

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        y, weights = self.attention(q, k, v, **self.call)
        return (y, weights) if self.call.get("need_weights", True) else y


OPTIONS: list[dict[str, Any]] = [
    {}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 4, "vdim": 5}, {"kdim": 4, "vdim": 5, "bias": False}, {"dropout": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("first", "weights"), [*itertools.product((False, True), repeat=2)])
def test_several_heads_as_torch_has_them(options: dict[str, Any], first: bool, weights: bool) -> None:
    sizes = (6, options.get("kdim", 6), options.get("vdim", 6))
    lengths = (5, 7, 7)
    inputs = [drawn(2, t, c) if first else drawn(t, 2, c) for t, c in zip(lengths, sizes, strict=True)]
    call = {"need_weights": weights, "average_attn_weights": not options.get("bias", True)}
    check_model(Attending({**options, "batch_first": first}, call), *inputs)
    check_model(Attending({**options, "batch_first": first}, call), *[x[0] if first else x[:, 0] for x in inputs])


PADDING = torch.tensor([[False] * 7, [False] * 3 + [True] * 4])
MASKS: dict[str, dict[str, Any]] = {
    "padding": {"key_padding_mask": PADDING},
    "truths": {"attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(1)},
    "each head": {"attn_mask": torch.arange(6 * 5 * 7).reshape(6, 5, 7) % 3 == 1},
    "numbers": {"attn_mask": torch.arange(35, dtype=torch.float64).reshape(5, 7).sin()},
    "both": {"key_padding_mask": PADDING, "attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(1)},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=str)
def test_masks_of_several_heads(mask: str, options: dict[str, Any]) -> None:
    model = Attending({**options, "batch_first": True}, {**MASKS[mask], "need_weights": False})
    ran = check_model(model, drawn(2, 5, 6), drawn(2, 7, 6), drawn(2, 7, 6))
    assert any(isinstance(step.rule, MultiHeadAttention) for step in ran)


@pytest.mark.parametrize("shape", [(5, 7), (6, 5, 7)])
def test_a_mask_of_numbers_has_its_delta(shape: tuple[int, ...]) -> None:
    model = nn.MultiheadAttention(6, 3, batch_first=True).double()
    given = {name.replace("out_proj.", "out_"): each.detach() for name, each in model.named_parameters()}
    tensors = [drawn(2, 5, 6), drawn(2, 7, 6), drawn(2, 7, 6), drawn(2, 7), drawn(*shape)]
    rule = MultiHeadAttention(heads=3, batch_first=True)
    (y, _), saved = rule.forward(*tensors, **given)
    assert set(saved) == set(rule.needs)
    leaves = [each.clone().requires_grad_() for each in tensors]
    expected, _ = model(*leaves[:3], key_padding_mask=leaves[3], attn_mask=leaves[4], need_weights=True)
    delta = torch.randn_like(y)
    wanted = torch.autograd.grad(expected, leaves, delta)
    found, _ = rule.backward(saved, (delta, None))
    assert worst(y, expected.detach()) < 1e-12
    for own, other in zip(found, wanted, strict=True):
        assert own is not None
        assert worst(own, other) < 1e-9


def additive(q: Tensor, k: Tensor, v: Tensor, W: Tensor, U: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """From the definition, one pair after another."""
    rows = []
    for n, m in itertools.product(range(len(q)), range(q.shape[1])):
        scores = torch.stack([w @ torch.tanh(W @ q[n, m] + U @ k[n, j] + b) for j in range(k.shape[1])])
        rows.append(torch.softmax(scores, 0) @ v[n])
    return torch.stack(rows).reshape(*q.shape[:2], -1)


def test_additive_attention_from_its_definition() -> None:
    names = ("query_weight", "key_weight", "bias", "score_weight")
    parameters = dict(zip(names, (drawn(6, 4), drawn(6, 3), drawn(6), drawn(6)), strict=True))
    rule = AdditiveAttention()
    tensors = [drawn(2, 3, 4), drawn(2, 5, 3), drawn(2, 5, 7)]
    q, k, v = tensors
    y, saved = rule.forward(q, k, v, **parameters)
    assert set(saved) == set(rule.needs)
    leaves = [each.clone().requires_grad_() for each in (*tensors, *parameters.values())]
    expected = additive(*leaves)
    delta = torch.randn_like(y)
    wanted = torch.autograd.grad(expected, leaves, delta)
    found, gradients = rule.backward(saved, delta)
    assert worst(y, expected.detach()) < 1e-12
    for own, other in zip((*found[:3], *gradients.values()), wanted, strict=True):
        assert own is not None
        assert worst(own, other) < 1e-9
    seen = torch.tensor([[True, True, False, False, False], [True] * 5])
    masked, _ = rule.forward(q, k, v, seen, **parameters)
    alone, _ = rule.forward(q[:1], k[:1, :2], v[:1, :2], **parameters)
    assert worst(masked[:1], alone) < 1e-12
    assert torch.equal(masked[1], y[1])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="q: .*wanted keys as long as queries"):
        DotProductAttention().forward(drawn(5, 4), drawn(7, 3), drawn(7, 3))
    with pytest.raises(ArgumentError, match=r"query: got \(3, 2, 2\), wanted as many dimensions as key and value have"):
        MultiHeadAttention().forward(drawn(2, 5, 6), drawn(7, 6), drawn(7, 6))


def test_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    import convscope.rules.attention as attention

    right = attention.weights_back
    monkeypatch.setattr(attention, "weights_back", lambda weights, delta: right(weights, delta) * (1 + 1e-7))
    with pytest.raises(AssertionError):
        check_model(Attending({"batch_first": True}, {"need_weights": False}), *[drawn(2, 5, 6)] * 3)
