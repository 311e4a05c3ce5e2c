"""A plan knows what it was made from, and is made anew when any of that changes."""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import accelerate
from convscope.errors import LoweringError
from convscope.graph.guards import Guard
from convscope.native.availability import engine

SHAPE = (3, 8, 8)
STRENGTH = 1.0
SETTINGS = {"bias": [0.25]}


class Slotted:
    __slots__ = ("gain",)

    def __init__(self) -> None:
        self.gain = 1.5


class Settings:
    slope = 1.25


class Scaled(nn.Module):
    """Reads attributes of every kind in its forward."""

    offset: Tensor
    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.slotted, self.table, self.pair, self.own = Slotted(), np.array([0.5]), ([1.0],), Settings()
        self.a, self.norm, self.drop, self.b = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.0), nn.Linear(144, 5)
        self.scale = 1.0
        self.options = {"slope": [0.1, 0.2]}
        self.settings = types.SimpleNamespace(shift=0.5)
        self.gate = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x)) * self.scale * STRENGTH * self.factor * self.slotted.gain
        h = h * self.pair[0][0] * Settings.slope * self.own.slope + SETTINGS["bias"][0] + float(self.table[0])
        h = F.leaky_relu(self.drop(h), self.options["slope"][1]) + self.settings.shift
        found: Tensor = self.b(self.gate(h).flatten(1))
        return found


def _forward(self: Any, x: Tensor) -> Tensor:
    found: Tensor = self.b((self.a(x) * 3).flatten(1))
    return found


CHANGES: dict[str, Callable[[Any], Any]] = {
    "number": lambda m: setattr(m, "scale", 3.0),
    "in a list in a dict": lambda m: m.options["slope"].__setitem__(1, 0.7),
    "in an object": lambda m: setattr(m.settings, "shift", -0.5),
    "of the class": lambda m: setattr(type(m), "factor", type(m).factor + 1),
    "of another class": lambda m: setattr(Settings, "slope", Settings.slope + 0.5),
    "in a global": lambda m: SETTINGS["bias"].__setitem__(0, SETTINGS["bias"][0] + 1),
    "in slots": lambda m: setattr(m.slotted, "gain", 0.5),
    "in an array": lambda m: m.table.__setitem__(0, -2.0),
    "in a tuple": lambda m: m.pair[0].__setitem__(0, 3.0),
    "momentum": lambda m: setattr(m.norm, "momentum", 1.0),
    "eps": lambda m: setattr(m.norm, "eps", 1.0),
    "a layer's reach": lambda m: vars(m.a).update(dilation=(2, 2), padding=(1, 1)),
    "another layer": lambda m: setattr(m, "gate", nn.Sigmoid()),
    "frozen": lambda m: m.a.requires_grad_(False),
    "one layer's mode": lambda m: m.norm.eval(),
    "a replaced forward": lambda m: setattr(m, "forward", types.MethodType(_forward, m)),
}


def results(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    found = [y.detach(), *(torch.zeros(()) if p.grad is None else p.grad for p in model.parameters())]
    return [*found, *(each.double() for each in model.buffers())]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_after_the_first_call_is_seen(change: Callable[[Any], Any]) -> None:
    plain = randomised(Scaled())
    fast = accelerate(copy.deepcopy(plain))
    x = pictures(5, SHAPE)
    for model in (plain, fast):
        results(model, x)
    change(plain)
    change(fast.model)
    one, other = results(plain, x), results(fast, x)
    largest = max(float(each.abs().max()) for each in one[1 : len(list(plain.parameters())) + 1])
    for own, wanted in zip(other, one, strict=True):
        assert float((own - wanted).abs().max()) < 1e-5 * max(largest, 1.0)
    assert relative(other[0], one[0]) < 1e-5


def test_globals_and_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(Scaled()).eval()
    fast, x = accelerate(model), pictures(5, SHAPE)
    fast(x)
    monkeypatch.setitem(globals(), "STRENGTH", 2.0)
    assert relative(fast(x), model(x)) < 1e-5
    with torch.autocast("cpu"), pytest.raises(LoweringError, match="autocast is on"):
        fast(x)
    assert relative(fast(x), model(x)) < 1e-5


SHIFT = 1.0


def _shift() -> float:
    return SHIFT


def _helped(x: Tensor) -> Tensor:
    return x + _shift()


class Helped(nn.Module):
    """Reads a global by a function of a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.a(x))

    def own(self, x: Tensor) -> Tensor:
        return _helped(x)


def test_globals_of_helpers_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(Helped())
    fast, x = accelerate(model), pictures(2, SHAPE)
    assert relative(fast(x), model(x)) < 1e-5
    monkeypatch.setitem(globals(), "SHIFT", 5.0)
    assert relative(fast(x), model(x)) < 1e-5


def test_hooks_set_later_are_not_left_out() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    fast, x = accelerate(model), pictures(2, SHAPE)
    fast(x)
    model[1].register_forward_hook(lambda module, given, y: y * 0)
    with pytest.raises(LoweringError, match="layer '1': has forward hooks"):
        fast(x)


def test_plans_are_kept_while_nothing_changes() -> None:
    model = randomised(Scaled())
    fast, x = accelerate(model), pictures(5, SHAPE)
    plans = []
    for training in (True, False, True, False):
        fast.train(training)
        fast(x)
        plans.append(next(iter(fast._networks._kept.values()))[0].ready())
    assert plans[0] is plans[2]
    assert plans[1] is plans[3]


class HoldsNothingYet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.listed: list[int] = []
        self.named: dict[str, int] = {}
        self.queued: collections.deque[int] = collections.deque()
        self.ordered: collections.OrderedDict[str, int] = collections.OrderedDict()
        self.nested: dict[str, dict[str, int]] = {"inner": {}}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y


@pytest.mark.parametrize(
    "fill",
    [
        lambda model: model.listed.append(1),
        lambda model: model.named.update(a=1),
        lambda model: model.queued.append(1),
        lambda model: model.ordered.update(a=1),
        lambda model: model.nested["inner"].update(a=1),
        lambda model: model.linear.register_forward_pre_hook(lambda module, given: None),
        lambda model: model.linear.register_state_dict_post_hook(lambda *given: None),
    ],
)
@pytest.mark.parametrize("by_the_engine", [True, False])
def test_what_was_empty_is_looked_at_too(fill: Callable[[Any], Any], by_the_engine: bool) -> None:
    model = HoldsNothingYet()
    unchanged = engine().unchanged if by_the_engine else None
    guard = Guard(model, unchanged)
    assert guard.holds()
    fill(model)
    assert not guard.holds()
    filled = Guard(model, unchanged)
    assert filled.holds()
    for each in (model.listed, model.named, model.queued, model.ordered, model.nested["inner"]):
        if each:
            each.clear()
            assert not filled.holds()


@pytest.mark.usefixtures("any_engine")
def test_the_engine_tells_what_dicts_and_lists_hold() -> None:
    unchanged = engine().unchanged
    one, two, three = object(), object(), [2.0]
    table: dict[str, object] = {"one": one, "two": two}
    row = [one, three]
    contents = [["one", one, "two", two], [one, three], []]
    held = [table, row, collections.OrderedDict()]
    assert unchanged(held, contents)
    three.append(3.0)
    assert unchanged(held, contents), "what an item holds is another's question"
    for change, back in (
        (lambda: table.update(one=two), lambda: table.update(one=one)),
        (lambda: table.update(three=one), lambda: table.pop("three")),
        (lambda: row.reverse(), lambda: row.reverse()),
        (lambda: row.append(one), lambda: row.pop()),
        (lambda: row.__setitem__(1, [2.0, 3.0]), lambda: row.__setitem__(1, three)),
        (lambda: held[2].update(x=1), lambda: held[2].clear()),  # type: ignore[attr-defined]
    ):
        change()
        assert not unchanged(held, contents)
        back()
        assert unchanged(held, contents)
    table["one"] = table.pop("one")
    assert not unchanged(held, contents), "another order"
    with pytest.raises(TypeError, match="held wants dicts and lists"):
        unchanged([{1, 2}], [[1, 2]])
    with pytest.raises(TypeError, match="contents wants lists"):
        unchanged([[1]], [(1,)])
    with pytest.raises(ValueError, match="the same length"):
        unchanged([[1]], [])


class AsksTheMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch.is_grad_enabled() else x.relu()


def test_a_model_that_asks_whether_gradients_are_wanted_answers_as_in_torch() -> None:
    model = randomised(
        nn.Sequential(nn.Conv2d(3, 8, 3), AsksTheMode(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    )
    fast, x = accelerate(copy.deepcopy(model)), pictures(2, (3, 12, 12))
    for wanted in (True, False, True):
        with torch.set_grad_enabled(wanted):
            assert relative(fast(x), model(x)) < 1e-5
