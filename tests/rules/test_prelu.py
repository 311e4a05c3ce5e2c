"""The trained rectifier against torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule, well_apart
from torch import nn

from convscope.rules import base, tape
from convscope.rules.prelu import PReLU


@pytest.mark.parametrize("shape", [(17, 3, 5, 4), (5, 3), (4, 3, 7), (1, 3, 1, 1)])
@pytest.mark.parametrize("slopes", [1, 3])
def test_against_torch(shape: tuple[int, ...], slopes: int) -> None:
    weight = torch.linspace(-0.4, 0.6, slopes, dtype=torch.float64)
    check_rule(PReLU(), F.prelu, [well_apart(*shape)], {"weight": weight})


def test_single_numbers() -> None:
    check_rule(PReLU(), F.prelu, [well_apart(9)], {"weight": torch.tensor([0.3], dtype=torch.float64)})


def test_the_bend_is_torch_s() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.25, -3.0], dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(F.prelu(x, weight).sum(), (x, weight))
    _, saved = PReLU().forward(x.detach(), weight.detach())
    (delta,), found = PReLU().backward(saved, torch.ones(1, 2, dtype=torch.float64))
    assert delta is not None
    assert torch.equal(delta, expected[0])
    assert torch.equal(found["weight"], expected[1])


def test_module_function_and_method() -> None:
    x, module = torch.randn(4, 3, 2), nn.PReLU(3)
    for applied in (
        base.apply_module(module, (x,), {}),
        base.apply_function(F.prelu, (x, module.weight), {}),
        base.apply_method("prelu", (x, module.weight), {}),
    ):
        assert applied is not None
        torch.testing.assert_close(applied.rule.forward(*applied.inputs, **applied.arguments)[0], module(x))


def test_its_slope_is_trained() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    back = tape.forward(model, x).backward(torch.ones(5, 2, dtype=torch.float64))
    expected = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    for found, wanted in zip(back.gradients.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
