"""The table of element-wise functions: every row against torch's autograd, in every form in which it can be called."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule, well_apart
from torch import Tensor, nn

from convscope import layers
from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.activation import GELU, ScaledSigmoid, ScaledTanh, Sigmoid, Tanh
from convscope.rules.base import Applied
from convscope.rules.elementwise import ELEMENTWISE, Elementwise, Row, elementwise, row_of, rule_of
from convscope.rules.rectifier import ReLU

#: Options to try beside the defaults; a row whose options have no default needs an entry.
OPTIONS: dict[str, list[tuple[Any, ...]]] = {
    "celu": [(0.7,)],
    "clamp": [(0,), (-1, 1), (None, 0.5), (2, 1)],
    "clamp_max": [(1,)],
    "clamp_min": [(0.5,)],
    "elu": [(0.7,)],
    "gelu": [("tanh",)],
    "hardshrink": [(0.3,)],
    "hardtanh": [(-2, 1)],
    "leaky_relu": [(0.2,)],
    "pow": [(2,), (3,), (0.5,), (-1,), (0,), (1,), (2.5,)],
    "scaled_sigmoid": [(2.5,)],
    "softplus": [(3.0, 5.0)],
    "softshrink": [(0.3,)],
    "threshold": [(0.1, -2.0)],
}
#: What torch has not, or not in full float64: it keeps the hard sigmoid's 1/6 and CELU's 1/α as float32 numbers.
WRITTEN_OUT: dict[str, Callable[..., Tensor]] = {
    "celu": lambda x, alpha=1.0: torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha)),
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "linear": lambda x: x * 1,
    "scaled_sigmoid": lambda x, beta=1.0: torch.sigmoid(beta * x),
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
}
POSITIVE = {"log", "log2", "log10", "sqrt", "rsqrt", "pow"}  # defined there only, or with a pole at 0
#: Bends, both zeros, the smallest and the largest numbers that e^u, u² and their like can take.
AWKWARD = [
    -1e4, -745.0, -200.0, -88.0, -20.5, -6.0, -3.0, -2.0, -1.0, -0.5, -0.3, -1e-300, -0.0,
    0.0, 1e-300, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 6.0, 20.0, 20.5, 88.0, 200.0, 709.0, 1e4,
]  # fmt: skip


def uses() -> list[Any]:
    found = []
    for name in ELEMENTWISE:
        needed = name == "clamp" or dataclasses.MISSING in ELEMENTWISE[name].options.values()
        defaults = [] if needed else [()]
        found += [pytest.param(name, options, id=f"{name}{options or ''}") for options in defaults]
        found += [pytest.param(name, options, id=f"{name}{options}") for options in OPTIONS.get(name, [])]
    return found


def rule_for(name: str, options: tuple[Any, ...]) -> Elementwise:
    rule = ELEMENTWISE[name].of_call(options, {})
    assert rule is not None
    return rule


def reference(name: str, options: tuple[Any, ...]) -> Callable[[Tensor], Tensor]:
    function = WRITTEN_OUT.get(name) or next(iter(ELEMENTWISE[name].functions.values()))
    if name == "gelu" and options:
        return lambda x: F.gelu(x, approximate=options[0])
    return lambda x: function(x, *options)


@pytest.mark.parametrize(("name", "options"), uses())
@pytest.mark.parametrize("shape", [(1, 1), (17, 3, 5, 4), (33,)])
def test_ordinary_points(name: str, options: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    x = well_apart(*shape)
    x = x * (8.7 / float(x.abs().max()) if x.numel() > 1 else 40)  # across every bend, and into saturation
    x = x.abs() + 0.05 if name in POSITIVE else x
    x = x + 2 * x.sign() if name == "reciprocal" else x
    x = x * 0.09 if name == "tan" else x
    x = x.abs() if name == "log1p" else x
    x = x + 0.001 if name in ("round", "floor", "ceil") else x
    check_rule(rule_for(name, options), reference(name, options), [x])


@pytest.mark.parametrize(("name", "options"), uses())
def test_awkward_points(name: str, options: tuple[Any, ...]) -> None:
    """At bends, zeros and the ends of the numbers value and derivative are torch's, infinities and NaN included."""
    x = torch.tensor(AWKWARD, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = reference(name, options)(leaf)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    rule = rule_for(name, options)
    y, saved = rule.forward(x)
    ((found,), _) = rule.backward(saved, torch.ones_like(x))
    assert found is not None
    for own, its in ((y, expected.detach()), (found, slope), (rule.slope_at(x), slope)):
        torch.testing.assert_close(own, its, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(("name", "options"), uses())
def test_not_a_number_stays_one(name: str, options: tuple[Any, ...]) -> None:
    if name in ("sign",) or (name, options) == ("pow", (0,)):  # torch's own answers are 0 and 1
        return
    assert rule_for(name, options).forward(torch.tensor([math.nan]))[0].isnan().all()


@pytest.mark.parametrize("name", ELEMENTWISE.names())
def test_every_form_is_the_same_function(name: str) -> None:
    """Whatever module, function and method the row names, in place or not: torch computes what the rule does."""
    row = ELEMENTWISE[name]
    needed = name == "clamp" or dataclasses.MISSING in row.options.values()
    options = OPTIONS[name][-1] if needed else ()
    x = well_apart(3, 7) * 7 + (3.1 if name in POSITIVE | {"log1p"} else 0)
    expected = rule_for(name, options).forward(x)[0]
    for module in row.modules:
        made = module(*options)
        applied = base.apply_module(made, (x,), {})
        _same(applied, made(x.clone()), expected)
        assert row_of(made) is row
    for function in row.functions.values():
        _same(base.apply_function(function, (x, *options), {}), function(x.clone(), *options), expected)
        assert row_of(None, function) is row
    for method in row.methods:
        _same(base.apply_method(method, (x, *options), {}), getattr(x.clone(), method)(*options), expected)
        assert row_of(None, method) is row


def _same(applied: Applied | None, y: Tensor, expected: Tensor) -> None:
    assert applied is not None
    torch.testing.assert_close(y, expected, rtol=1e-7, atol=1e-9)  # the hard sigmoid's 1/6
    torch.testing.assert_close(applied.rule.forward(*applied.inputs)[0], expected)


@pytest.mark.parametrize("name", ELEMENTWISE.names())
def test_every_row_has_its_formula(name: str) -> None:
    value, slope = ELEMENTWISE[name].formulas
    assert value
    assert slope
    assert "f′" not in value


@pytest.mark.parametrize("name", ELEMENTWISE.names())
def test_limits_are_what_f_tends_to(name: str) -> None:
    rule = rule_for(name, OPTIONS.get(name, [()])[-1])
    limits = rule.limits()
    if limits is not None:
        ends = rule.f(torch.tensor([-1e9, 1e9], dtype=torch.float64))
        assert ends.tolist() == pytest.approx(limits, abs=1e-8)


@pytest.mark.parametrize("name", ELEMENTWISE.names())
def test_rectifiers_are_those_that_are_silent_below_zero(name: str) -> None:
    rule = rule_for(name, OPTIONS.get(name, [()])[-1])
    x = -torch.arange(50.0)
    silent = not rule.f(x).any() and not rule.slope_at(x).any()
    assert rule.rectifies == silent


def test_options_by_position_by_name_and_from_the_module() -> None:
    x = torch.randn(3)
    for module, arguments, keywords in (
        (nn.LeakyReLU(0.3), (x, 0.3), {}),
        (nn.LeakyReLU(0.3), (x,), {"negative_slope": 0.3, "inplace": True}),
        (nn.LeakyReLU(0.3, inplace=True), (), {"input": x, "negative_slope": 0.3}),
    ):
        expected = row_of(module).of_module(module)  # type: ignore[union-attr]
        assert rule_of(None, F.leaky_relu, arguments, keywords) == expected
        assert rule_of(module, None, (x,), {}) == expected


def test_other_forms_of_call_are_left_to_torch() -> None:
    x = torch.randn(3)
    assert base.apply_function(torch.pow, (x, x), {}) is None  # an exponent that is a tensor
    assert base.apply_function(torch.clamp, (x,), {"min": x}) is None
    assert base.apply_function(torch.round, (x,), {"decimals": 2}) is None
    assert base.apply_function(torch.relu, (x, False, 3), {}) is None
    assert base.apply_function(F.threshold, (x, 0.1), {}) is None
    assert base.apply_function(torch.abs, (torch.arange(3),), {}) is None  # whole numbers have no derivative
    assert base.apply_function(torch.exp, (x,), {"out": torch.empty(3)}) is None
    assert row_of(None, [torch.relu]) is None
    assert row_of(None, torch.add) is None


def test_gelu_takes_two_forms() -> None:
    with pytest.raises(ArgumentError, match='approximate: got \'erf\', wanted "none" or "tanh"'):
        GELU("erf")


def test_clamp_needs_an_end() -> None:
    with pytest.raises(ArgumentError, match="min: got None, wanted a number, or one for max"):
        base.apply_method("clamp", (torch.ones(1),), {})


def test_scaled_tanh_is_one_at_one() -> None:
    """LeCun's choice of the two constants: f(±1) = ±1."""
    y, _ = ScaledTanh().forward(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert y.tolist() == pytest.approx([-1, 1], abs=1e-4)


def test_hand_worked_derivatives() -> None:
    """σ(0) = ½ and σ′(0) = β/4; tanh′(0) = 1; the scaled tanh's slope at 0 is a·b = 1.7159·2/3."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for rule, at_zero, expected in (
        (ScaledSigmoid(3.0), 0.5, 0.75),
        (Tanh(), 0.0, 1.0),
        (ScaledTanh(), 0.0, 1.7159 * 2 / 3),
    ):
        y, saved = rule.forward(zero)
        assert y.item() == at_zero
        ((found,), _) = rule.backward(saved, one)
        assert found is not None
        assert found.item() == pytest.approx(expected, rel=1e-15)


def test_u_is_the_input_and_delta_u_has_the_slope() -> None:
    x, delta = well_apart(2, 3), torch.ones(2, 3, dtype=torch.float64)
    rule = Sigmoid()
    y, saved = rule.forward(x)
    u, delta_u = rule.at_u(saved, (x,), y, delta)
    assert u is x
    torch.testing.assert_close(delta_u, y * (1 - y))


def test_activations_by_name() -> None:
    names = layers.activation_names()
    assert {"relu", "linear", "scaled_tanh", "gelu", "hardswish"} <= set(names)
    assert "exp" not in names  # no module
    assert "threshold" not in names  # its options have no defaults
    x = torch.randn(5)
    for name in names:
        torch.testing.assert_close(layers.activation(name)(x), ELEMENTWISE[name].rule().f(x))


def test_a_row_needs_its_formula() -> None:
    class Nameless(ReLU):
        """Something else."""

    with pytest.raises(AssertionError, match="Nameless's docstring must open with"):
        _ = Row("nameless", Nameless).formulas
    with pytest.raises(AssertionError, match="registered twice"):
        elementwise("relu")(ReLU)


def test_canary() -> None:
    class Wrong(Sigmoid):
        def slope(self, saved: Tensor) -> Tensor:
            return saved * (1 - saved) + 1e-8

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Wrong(), torch.sigmoid, [well_apart(4)])
    assert math.isclose(0.25, float(Sigmoid().slope(torch.tensor(0.5))))
