"""What every rule must keep, whichever it is; a rule is enrolled by being bound to a module, a function or a method."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.calls import function_calls, layer_call
from tests.oracles import check_model, worst
from torch import Tensor, nn

from convscope import layers as layers  # enrols its modules
from convscope.rules import base, tape
from convscope.rules.base import Rule

PAGE = (Path(__file__).parents[2] / "docs" / "equations.md").read_text(encoding="utf-8")
base.discover()


def every_rule(kind: type[Rule] = Rule) -> Iterator[type[Rule]]:
    """The rules of the package that can be used, families left out."""
    for rule in kind.__subclasses__():
        if rule.__module__.startswith("convscope.") and not inspect.isabstract(rule):
            yield rule
        yield from every_rule(rule)


def named(item: Any) -> str:
    module = getattr(item, "__module__", None) or ""
    return f"{module.removeprefix('convscope.')}.{getattr(item, '__qualname__', item)}"


def ours(bound: Mapping[Any, Any]) -> list[Any]:
    """What the package itself binds a rule to; other tests, if they are collected first, bind rules of their own."""
    binds = {key: getattr(binding, "bind", binding) for key, binding in bound.items()}
    return sorted((key for key, bind in binds.items() if bind.__module__.startswith("convscope.")), key=ordered)


def ordered(item: Any) -> tuple[str, str]:
    return named(item), str(item)


RULES = sorted(set(every_rule()), key=named)
MODULES, FUNCTIONS, METHODS = ours(base._modules), ours(base._functions), ours(base._methods)


def equations(rule: type[Rule]) -> str:
    return (inspect.getdoc(rule) or "").split("\n\n")[0]


@pytest.mark.parametrize("rule", RULES, ids=named)
class TestEveryRule:
    def test_its_docstring_opens_with_its_equations(self, rule: type[Rule]) -> None:
        text = inspect.getdoc(rule) or ""
        assert "=" in text
        assert any(sign in text for sign in ("δ", "′", "∂")), "the way back"

    def test_it_is_in_the_page_of_equations(self, rule: type[Rule]) -> None:
        if rule.__name__.startswith("_"):
            return
        _, _, after = PAGE.partition(f"### {rule.__name__}\n")
        section = after.partition("\n### ")[0]
        assert section
        for line in equations(rule).splitlines():
            assert line.strip().replace("``", "") in section.replace("`", "")

    def test_it_declares_what_it_saves_and_learns(self, rule: type[Rule]) -> None:
        for names in (rule.needs, rule.parameters, rule.buffers):
            assert isinstance(names, tuple)
            assert all(isinstance(name, str) and name for name in names)
        assert not set(rule.parameters) & set(rule.buffers)
        assert rule.kind


class Called(nn.Module):
    """A model that is one call of a function or a method."""

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.call, self.arguments = call, arguments
        for place, each in enumerate(arguments):
            if isinstance(each, nn.Parameter):
                self.register_parameter(f"argument{place}", each)
        result = call(*copy.deepcopy(arguments))
        self.parts = None if isinstance(result, Tensor) else len(result)

    def forward(self, x: Tensor) -> Any:
        first, *others = self.arguments
        y = self.call([x, *first[1:]] if isinstance(first, list) else x, *others)
        return y if self.parts is None else torch.cat([y[part].reshape(-1) for part in range(self.parts)])


def calls_with_rules(apply: Callable[..., Any], bound: Any, call: Callable[..., Any]) -> Iterator[tuple[Any, Rule]]:
    """(arguments, rule) of all example calls that torch takes and that have a rule."""
    for arguments in function_calls():
        try:
            call(*copy.deepcopy(arguments))
        except (TypeError, RuntimeError, ValueError, IndexError, AttributeError, ZeroDivisionError, UserWarning):
            continue
        applied = apply(bound, copy.deepcopy(arguments), {})
        if applied is not None:
            yield arguments, applied.rule


def first_call(apply: Callable[..., Any], bound: Any, call: Callable[..., Any]) -> tuple[Any, ...]:
    for arguments, _ in calls_with_rules(apply, bound, call):
        found: tuple[Any, ...] = arguments
        return found
    raise AssertionError(f"no call of {bound} in tests/contracts/calls.py has a rule: add one")


def exactness(item: Any) -> float:
    """1e-9, but where torch itself is less exact: its hardsigmoid goes back by a sixth in float32."""
    return 1e-7 if item in (nn.Hardsigmoid, nn.functional.hardsigmoid) else 1e-9


def check_call(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    first = arguments[0]
    x = first[0] if isinstance(first, list) else first
    ran = check_model(Called(call, arguments), x, exactly=exactness(call))
    assert any(step.rule.kind != "other" for step in ran), "autograd, not the rule"


@pytest.mark.parametrize("cls", MODULES, ids=named)
def test_every_module_goes_back_as_autograd_does(cls: type[nn.Module]) -> None:
    layer, inputs = layer_call(cls)
    applied = base.apply_module(layer, inputs, {})
    assert applied is not None
    assert type(applied.rule) in RULES
    if len(inputs) == 1:
        check_model(nn.Sequential(layer), *inputs, expected_rules=1, exactly=exactness(cls))
    else:
        check_model(layer, *inputs)


@pytest.mark.parametrize("function", FUNCTIONS, ids=named)
def test_every_function_goes_back_as_autograd_does(function: Callable[..., Any]) -> None:
    check_call(function, first_call(base.apply_function, function, function))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_back_as_autograd_does(method: str) -> None:
    def call(x: Tensor, *arguments: Any) -> Any:
        return getattr(x, method)(*arguments)

    check_call(call, first_call(base.apply_method, method, call))


def test_every_rule_is_bound_to_something() -> None:
    """A rule that nothing uses would be dead; ``LocalAutograd`` is for what has no rule."""
    used = set()
    for cls in MODULES:
        layer, inputs = layer_call(cls)
        used.add(type(base.apply_module(layer, inputs, {}).rule))  # type: ignore[union-attr]
    for function in FUNCTIONS:
        used |= {type(rule) for _, rule in calls_with_rules(base.apply_function, function, function)}
    for method in METHODS:
        used |= {type(rule) for _, rule in calls_with_rules(base.apply_method, method, getattr(Tensor, method))}
    assert {rule.__name__ for rule in set(RULES) - used} == {"LocalAutograd"}


def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.rules.rectifier import ReLU

    right = ReLU.slope
    monkeypatch.setattr(ReLU, "slope", lambda self, saved: right(self, saved) * (1 + 1e-8))
    with pytest.raises(AssertionError):
        test_every_module_goes_back_as_autograd_does(nn.ReLU)
    x = torch.randn(3, 4, dtype=torch.float64)
    back = tape.forward(nn.Sequential(nn.ReLU()), x).backward(torch.ones_like(x))
    assert worst(back.inputs[0], (x > 0).double()) > 1e-9
