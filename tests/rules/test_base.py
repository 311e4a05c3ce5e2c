"""Binding rules to modules, functions and methods."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.rules import base, tape
from convscope.rules.base import Applied, Rule, rule_for_function, rule_for_method, rule_for_module
from convscope.rules.rectifier import ReLU


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([2.0]))
        self.on = True

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@dataclasses.dataclass(frozen=True)
class ScaleRule(Rule):
    """y = c·x,   δ_x = c·δ,   ∂J/∂c = Σ δ·x"""

    needs = ("x", "c")
    parameters = ("c",)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return x * c, {"x": x, "c": c}

    def backward(self, saved: dict[str, Any], delta: Tensor) -> tuple[Any, dict[str, Tensor]]:
        return (delta * saved["c"],), {"c": (delta * saved["x"]).sum().reshape(1)}


@rule_for_module(Scaled, names={"c": "factor"})
def _(module: Scaled, x: Tensor) -> Rule | None:
    return ScaleRule() if module.on else None


def twice(x: Tensor) -> Tensor:
    return 2 * x


@rule_for_function(twice)
@rule_for_method("made_up_method")
def _(x: Tensor, flag: bool = True) -> Applied | None:
    return Applied(ScaleRule(), (x,), {"c": torch.tensor([2.0])}) if flag else None


def test_a_module_s_rule_with_other_names() -> None:
    module, x = Scaled(), torch.randn(3)
    applied = base.apply_module(module, (), {"x": x})
    assert applied is not None
    assert applied.inputs == (x,)
    assert applied.arguments["c"] is module.factor
    assert base.has_rule(module)
    assert not base.has_rule(nn.Bilinear(1, 1, 1))
    back = tape.forward(nn.Sequential(module), x).backward(torch.ones(3))
    assert list(back.gradients) == ["0.factor"]
    torch.testing.assert_close(back.gradients["0.factor"], x.sum().reshape(1))


def test_a_rule_may_decline() -> None:
    module = Scaled()
    module.on = False
    assert base.apply_module(module, (torch.ones(1),), {}) is None
    assert base.apply_function(twice, (torch.ones(1),), {"flag": False}) is None


def test_functions_and_methods() -> None:
    x = torch.randn(2)
    for applied in (base.apply_function(twice, (x,), {}), base.apply_method("made_up_method", (x,), {"flag": True})):
        assert applied is not None
        torch.testing.assert_close(applied.rule.forward(*applied.inputs, **applied.arguments)[0], 2 * x)
    assert base.apply_function(twice, (x,), {"unknown": 1}) is None
    assert base.apply_method("no_such_method", (x,), {}) is None


def test_subclasses_and_hooks_are_not_bound() -> None:
    class Leakier(nn.ReLU):
        def forward(self, input: Tensor) -> Tensor:
            return F.leaky_relu(input, 0.3)

    x = torch.randn(3)
    assert base.apply_module(Leakier(), (x,), {}) is None
    hooked = nn.ReLU()
    assert isinstance(base.apply_module(hooked, (x,), {}), Applied)
    hooked.register_forward_hook(lambda module, args, output: output * 2)
    assert base.apply_module(hooked, (x,), {}) is None


def test_default_u_is_y() -> None:
    y, delta = torch.ones(2), torch.zeros(2)
    assert ScaleRule().at_u({}, (), y, delta) == (y, delta)
    assert ReLU().kind == "activation"
    assert ScaleRule().kind == "other"
