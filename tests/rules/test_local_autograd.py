"""The stand-in rule for whatever has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.oracles import check_rule
from torch import Tensor, nn

from convscope.rules.local_autograd import LocalAutograd


def test_against_autograd() -> None:
    x, z = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    check_rule(LocalAutograd(lambda tensors: torch.sin(tensors[0]) * tensors[1]), lambda x, z: torch.sin(x) * z, [x, z])


def test_parameters_and_untouched_grad() -> None:
    layer = nn.Bilinear(3, 3, 2).double()
    a, b = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    rule = LocalAutograd(lambda tensors: layer(*tensors), dict(layer.named_parameters()))
    y, saved = rule.forward(a, b)
    assert not y.requires_grad
    deltas, gradients = rule.backward(saved, torch.ones_like(y))
    assert layer.weight.grad is None
    expected = torch.autograd.grad(layer(a, b).sum(), list(layer.parameters()))
    for found, wanted in zip(gradients.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(delta is not None for delta in deltas)
    again, _ = rule.backward(saved, torch.ones_like(y))
    assert torch.equal(again[0], deltas[0])  # type: ignore[arg-type]


def test_in_place_operations_change_nothing_outside() -> None:
    x = torch.randn(3)
    before = x.clone()
    y, saved = LocalAutograd(lambda tensors: tensors[0].mul_(2).relu_()).forward(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(y, 2 * before.relu())
    (delta,), _ = LocalAutograd(lambda tensors: tensors[0]).backward(saved, torch.ones(3))
    torch.testing.assert_close(delta, 2 * (before > 0).float())


def test_several_outputs_some_without_gradient() -> None:
    rule = LocalAutograd(lambda tensors: (tensors[0].max(1).values, {"where": tensors[0].argmax(1)}))
    x = torch.randn(4, 5)
    (value, more), saved = rule.forward(x)
    assert torch.equal(more["where"], x.argmax(1))
    (delta,), _ = rule.backward(saved, (torch.ones(4), {"where": None}))
    assert delta is not None
    assert delta.sum() == 4
    (nothing,), _ = rule.backward(saved, (None, {"where": None}))
    assert nothing is None
    assert value.shape == (4,)


def test_integer_inputs_have_no_delta() -> None:
    table = nn.Embedding(5, 3)
    rule = LocalAutograd(lambda tensors: table(tensors[0]), dict(table.named_parameters()))
    y, saved = rule.forward(torch.tensor([1, 1, 4]))
    (delta,), gradients = rule.backward(saved, torch.ones_like(y))
    assert delta is None
    assert gradients["weight"].sum(1).tolist() == [0, 6, 0, 0, 3]


def test_stochastic_call_runs_once() -> None:
    calls: list[int] = []

    def noisy(tensors: Any) -> Tensor:
        calls.append(1)
        result: Tensor = tensors[0] * torch.rand(())
        return result

    x = torch.ones(3)
    y, saved = LocalAutograd(noisy).forward(x)
    (delta,), _ = LocalAutograd(noisy).backward(saved, torch.ones(3))
    assert torch.equal(delta, y)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_canary() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="against autograd"):
        check_rule(LocalAutograd(lambda tensors: torch.sin(tensors[0]).detach() + tensors[0] * 0), torch.sin, [x])
