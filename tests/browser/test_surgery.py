"""What if, and health: answers after an edit are Python's, undone bit for bit; the units that never fire are named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, open_tab, select, session_of
from torch import nn

from convscope.data import Dataset, prepare
from convscope.explorer import Handle, explore

Change = Callable[[nn.Module], None]


def setting(name: str, place: tuple[int, ...], value: float, times: float = 0.0) -> Change:
    """What stands at a place of a parameter becomes itself ``times`` a factor, and ``value``."""

    def change(model: nn.Module) -> None:
        parameter = model.get_parameter(name)
        parameter[place] = parameter[place] * times + value

    return change


def emptied(layer: str, number: int) -> Change:
    def change(model: nn.Module) -> None:
        for name in ("weight", "bias"):
            model.get_parameter(f"{layer}.{name}")[number] = 0

    return change


def at(*index: int, parameter: str = "weight") -> Callable[[Any], None]:
    """Choose a weight by the panel's fields; each choice builds the panel anew."""

    def stands(page: Any, place: str) -> None:
        page.wait_for_function("place => document.querySelector('#set-weight')?.textContent.includes(place)", arg=place)

    def choose(page: Any) -> None:
        page.locator("#weight-parameter").select_option(parameter)
        stands(page, f"{parameter}[0")
        chosen = [0] * page.locator(".weight-index").count()
        stands(page, f"{parameter}[{', '.join(map(str, chosen))}]")
        for dimension, place in enumerate(index):
            chosen[dimension] = place
            field = page.locator(".weight-index").nth(dimension)
            field.fill(str(place))
            field.press("Tab")
            stands(page, f"{parameter}[{', '.join(map(str, chosen))}]")

    return choose


#: layer, map, what is chosen in the panel, the value to set (None: the button's own), the button, the same in Python
EDITS: list[tuple[str, int, Callable[[Any], None], str | None, str, Change]] = [
    ("c1", 2, at(2, 0, 1, 3), "0.75", "set-weight", setting("c1.weight", (2, 0, 1, 3), 0.75)),
    ("c3", 5, at(5, 3), None, "zero-kernel", setting("c3.weight", (5, 3), 0.0)),
    ("c3", 7, at(7, 1), None, "flip-kernel", setting("c3.weight", (7, 1), 0.0, -1.0)),
    ("c3", 9, at(), None, "silence", emptied("c3", 9)),
    ("f5", 6, at(6, 20), "1.5", "set-weight", setting("f5.weight", (6, 20), 1.5)),
    ("f5", 7, at(), None, "silence", emptied("f5", 7)),
    ("f6", 12, at(12, parameter="bias"), "3", "set-weight", setting("f6.bias", (12,), 3.0)),
]


def state_of(page: Any) -> tuple[str, list[float]]:
    """The weights' fingerprint and the answer, as shown."""
    logits: list[float] = page.evaluate("() => [...convscope.store.get('frame').logits]")
    return page.locator("#surgery-hash").inner_text(), logits


def press(page: Any, button: str, said: str = "Changed.") -> None:
    """Wait until it is told that it is done: from then on the panel, and what is written into it, stands."""
    page.evaluate("() => (document.querySelector('#live').textContent = '')")
    page.locator(f"#{button}").click()
    page.wait_for_function("said => document.querySelector('#live')?.textContent.includes(said)", arg=said)


def test_what_if(visit: Callable[..., Any], lenet: Handle) -> None:
    """The logits after each kind of edit are those of the same edit in Python, and so are the shares before and after;
    taken back one by one, fingerprint, logits and weights are what they were, to the last bit."""
    page = visit(lenet)
    session = session_of(lenet)
    twin, x = copy.deepcopy(session.model), session.snapshot.question.x
    stages = []
    with torch.no_grad():
        first = twin(x)[0].double().softmax(0)
    for count, (layer, number, choose, value, button, change) in enumerate(EDITS, 1):
        select(page, layer, number, [number] if layer.startswith("f") else None, "surgery")
        stages.append((state_of(page), copy.deepcopy(session.model.state_dict())))
        choose(page)
        if value is not None:
            page.locator("#surgery-value").fill(value)
        press(page, button)
        page.wait_for_function("count => document.querySelectorAll('ol#edits li').length === count", arg=count)
        with torch.no_grad():
            change(twin)
            expected = twin(x)[0]
        fingerprint, logits = state_of(page)
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=1e-5, atol=1e-5)
        assert fingerprint != stages[-1][0][0]
        assert logits != stages[-1][0][1]
        told = [exact(page, f"#surgery-compare .num >> nth={place}") for place in range(10)]
        after = expected.double().softmax(0)
        wanted = sorted(range(10), key=lambda each: -max(float(first[each]), float(after[each])))[:5]
        pairs = [part for each in wanted for part in (float(first[each]), float(after[each]))]
        assert told == pytest.approx(pairs, rel=1e-3, abs=1e-9)
    for count, (shown, weights) in reversed(list(enumerate(stages))):
        press(page, "undo", "Taken back.")
        page.wait_for_function("count => document.querySelectorAll('ol#edits li').length === count", arg=count)
        assert state_of(page) == shown
        assert all(torch.equal(value, weights[name]) for name, value in session.model.state_dict().items())
    for count, button in enumerate(("flip-kernel", "silence"), 1):
        select(page, "c1", 3, tab="surgery")
        press(page, button)
        page.wait_for_function("count => document.querySelectorAll('ol#edits li').length === count", arg=count)
    press(page, "undo-all", "Taken back.")
    page.wait_for_selector("p#edits")
    shown, weights = stages[0]
    assert state_of(page) == shown
    assert all(torch.equal(value, weights[name]) for name, value in session.model.state_dict().items())


def never_fire(model: nn.Module, x: torch.Tensor) -> list[str]:
    """By a loop over the rectifiers: "layer/unit" of what is 0 for every picture at every place."""
    found: list[str] = []
    hooks = []

    def listen(name: str, module: nn.Module) -> None:
        def keep(_: Any, __: Any, y: torch.Tensor) -> None:
            silent = y.transpose(0, 1).flatten(1).amax(1) <= 0
            found.extend(f"{name}/{unit}" for unit in torch.nonzero(silent).flatten().tolist())

        hooks.append(module.register_forward_hook(keep))

    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            listen(name, module)
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("maps", "units"), [([1, 4, 11], [7]), ([0, 15], list(range(3, 33)))])
def test_health(visit: Callable[..., Any], lenet: Handle, maps: list[int], units: list[int]) -> None:
    """Of a network whose every unit fires some are biased to −100: exactly those are reported, of two layers."""
    session = session_of(lenet)
    data = session.desk.data
    assert data is not None
    preprocessing = session.desk.preprocessing
    x = preprocessing.normalise(prepare(data.test.images[:200], preprocessing))
    with torch.no_grad():
        for name, more in (("c3", 1), ("f5", 50), ("f6", 1000)):
            session.model.get_parameter(f"{name}.bias").add_(more)
        assert never_fire(session.model, x) == []
        session.model.get_parameter("c3.bias")[maps] = -100
        session.model.get_parameter("f5.bias")[units] = -100
    planted = [f"c3_activation/{map}" for map in maps] + [f"f5_activation/{unit}" for unit in units]
    assert never_fire(session.model, x) == planted
    session.stepper.forget_hash()
    session.snapshot = session.make_snapshot(session.picture)
    page = visit(lenet)
    open_tab(page, "health")
    page.locator("#health-count").fill("200")
    page.locator("#examine").click()
    page.wait_for_selector("#health-table")
    named = page.locator("[data-dead]").evaluate_all("all => all.map((each) => each.dataset.dead)")
    assert named == planted[: len(maps) + 24]  # of each layer so many are named, the others counted
    counts = page.locator("#health-table tbody tr").evaluate_all(
        "all => all.map((row) => [row.dataset.layer, Number(row.querySelector('.num').dataset.exact)])"
    )
    wanted = {"c1_activation": 0, "c3_activation": len(maps), "f5_activation": len(units), "f6_activation": 0}
    assert dict(counts) == wanted
    twin = copy.deepcopy(session.model)
    target = torch.tensor([session.target])
    torch.autograd.backward(nn.functional.cross_entropy(twin(session.snapshot.question.x), target))
    rate = session.stepper.settings.rate
    told = page.locator("#health-steps tr").evaluate_all(
        "all => all.map((row) => [row.querySelector('td').innerText, Number(row.querySelector('.num').dataset.exact)])"
    )
    assert dict(told) == {
        name: pytest.approx(float(rate * each.grad.norm() / each.detach().norm()), rel=1e-3, abs=1e-9)
        for name, each in twin.named_parameters()
        if each.grad is not None
    }


def test_what_is_saturated(visit: Callable[..., Any], digits: Dataset) -> None:
    """Over the data set, of a sigmoid half of whose units are driven to an end: that half."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(0.01)
        model.get_parameter("0.bias").copy_(torch.tensor([100.0, -100, 0, 0]))
    with explore(model, digits, port=0, input_shape=(1, 8, 8)) as handle:
        page = visit(handle)
        open_tab(page, "health")
        page.locator("#examine").click()
        page.wait_for_selector("#health-table")
        assert exact(page, "#health-table tr[data-layer='1'] td:nth-child(3) .num") == pytest.approx(0.5)
