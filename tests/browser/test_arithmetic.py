"""Features 2 and 3: the numbers on the page against float64 autograd, and the printed sums closing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, printed, select, settle, table
from tests.explorer.fixtures import MODELS, Reference, reference
from torch import nn

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session

UNITS = 12


def closes(found: dict[str, Any]) -> None:
    """What is printed above the result adds up to it: terms, subtotals, bias and the rounding that is owned up to."""
    total = 0.0
    for row in found["rows"]:
        if row["kind"].startswith("equals"):
            digits = len(row["text"].partition(".")[2])
            assert abs(total - printed(row["text"])) < 0.51 * 10**-digits, row
            return
        total += printed(row["text"])
    raise AssertionError("no result in the table")


def units(layers: Sequence[str], truth: Reference) -> Iterator[tuple[str, list[int]]]:
    """``UNITS`` units of every layer, drawn."""
    for layer in layers:
        chosen = random.Random(layer)
        for _ in range(UNITS):
            yield layer, [chosen.randrange(side) for side in truth.y[layer].shape[1:]]


def test_forward_sums_close_and_agree_with_torch(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert isinstance(lenet.session, Session)
    truth = reference(lenet.session.model, lenet.session.snapshot.question.x, 3)
    for layer, unit in units(["c1", "s2", "c3", "s4", "f5", "f6", "output"], truth):
        select(page, layer, unit[0], unit)
        z = float(truth.y[layer][(0, *unit)])
        assert exact(page, "#result .num") == pytest.approx(z, rel=1e-5, abs=1e-5)
        found = table(page)
        if "step" not in found["kinds"] or layer in ("c1", "c3", "f5", "f6", "output"):
            closes(found)
        assert printed(found["rows"][-1]["text"]) == pytest.approx(z, abs=2e-4 * max(1, abs(z)))


def test_deltas_agree_with_autograd(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")  # not what it says: then δ is not all but zero
    assert isinstance(lenet.session, Session)
    snapshot = lenet.session.snapshot
    assert snapshot.question.target == 8
    truth = reference(lenet.session.model, snapshot.question.x, snapshot.question.target or 0)
    for layer, unit in units(["c1", "s2", "c3", "f5", "f6", "output"], truth):
        size = float(truth.grad_y[layer].abs().max())
        select(page, layer, unit[0], unit, tab="backward")
        delta = float(truth.grad_y[layer][(0, *unit)])
        assert exact(page, "#result .num") == pytest.approx(delta, rel=1e-4, abs=1e-5 * size + 1e-12)
        rows = table(page)["rows"]
        assert float(rows[-1]["exact"]) == pytest.approx(delta, rel=1e-4, abs=1e-5 * size + 1e-12)


def test_the_output_s_delta_is_p_minus_t(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert isinstance(lenet.session, Session)
    p = torch.softmax(lenet.session.snapshot.logits[0].double(), 0)
    for unit in range(10):
        select(page, "output", unit, [unit], tab="backward")
        target = lenet.session.snapshot.question.target
        assert exact(page, "#result .num") == pytest.approx(float(p[unit]) - (unit == target), abs=1e-6)
        assert "δ = p − t" in page.locator(".formula").inner_text()


def test_weight_gradients_and_the_nudge(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")  # not what it says: then δ is not all but zero
    assert isinstance(lenet.session, Session)
    snapshot = lenet.session.snapshot
    assert snapshot.question.target == 8
    truth = reference(lenet.session.model, snapshot.question.x, snapshot.question.target or 0)
    chosen = random.Random(0)
    for layer in ("c1", "c3", "f5", "output"):
        gradient = truth.gradients[f"{layer}.weight"]
        strongest = [int(at) for at in torch.unravel_index(gradient.abs().argmax(), gradient.shape)]
        places = [[chosen.randrange(side) for side in gradient.shape] for _ in range(4)] + [strongest]
        for index in places:
            page.evaluate("(index) => convscope.store.set({ weight: { parameter: 'weight', index } })", index)
            select(page, layer, index[0], None if gradient.ndim == 4 else [index[0]], tab="gradient")
            settle(page, 60)
            true = float(gradient[tuple(index)])
            assert exact(page, "#result .num") == pytest.approx(true, rel=1e-3, abs=1e-5 * float(gradient.abs().max()))
            assert len(page.locator("#tab-body table.sum tr.term").all()) >= 1
        page.locator("#epsilon").select_option("0.001")
        page.locator("#nudge").click()
        page.wait_for_selector("#nudge-result dd")
        numbers = [float(each.get_attribute("data-exact")) for each in page.locator("#nudge-result .num").all()]
        before, after, change, predicted = numbers
        assert change == pytest.approx(after - before, abs=1e-12)
        assert predicted == pytest.approx(change, rel=0.01)


def test_the_relu_rule_is_switched(visit: Callable[..., Any]) -> None:
    torch.manual_seed(8)
    model = MODELS["residual"]()
    with explore(model, port=0) as handle:
        page = visit(handle)
        assert isinstance(handle.session, Session)
        snapshot = handle.session.snapshot
        for rule in ("plain", "deconv", "guided"):
            relu = {
                "plain": None,
                "deconv": lambda u, grad: grad.clamp_min(0),
                "guided": lambda u, grad: grad.clamp_min(0) * (u > 0),
            }[rule]
            truth = reference(model, snapshot.question.x, snapshot.question.target or 0, relu=relu)
            for unit in ([2, 3, 4], [5, 1, 1], [0, 8, 0]):
                select(page, "norm", unit[0], unit, tab="backward")
                page.locator(f"#rule-{rule}").click()
                page.wait_for_selector(f"#rule-{rule}[aria-pressed='true']")
                settle(page, 120)
                true = float(truth.grad_y["norm"][(0, *unit)])
                size = float(truth.grad_y["norm"].abs().max())
                assert exact(page, "#result .num") == pytest.approx(true, rel=1e-4, abs=1e-5 * size)


def test_linked_windows(visit: Callable[..., Any], lenet: Handle) -> None:
    """Pointing at a cell of the output lights its window on every source; at a weight, all that it touches."""
    page = visit(lenet)
    select(page, "c3", 4)
    settle(page)
    board = page.locator("#board").bounding_box()
    out = page.evaluate(
        "() => { const h = convscope.hits.find((x) => x.panel.role === 'out'); return [h.x, h.y, h.w, h.h]; }"
    )
    page.mouse.move(board["x"] + out[0] + out[2] * 0.35, board["y"] + out[1] + out[3] * 0.75)
    settle(page)
    lights = page.evaluate("() => convscope.store.get('lights').length")
    assert lights >= 6 + 1
    assert page.locator("#tip").get_attribute("data-exact")
    kernel = page.evaluate(
        "() => { const h = convscope.hits.find((x) => x.panel.role === 'kernel'); return [h.x, h.y, h.w, h.h]; }"
    )
    page.mouse.move(board["x"] + kernel[0] + kernel[2] * 0.1, board["y"] + kernel[1] + kernel[3] * 0.1)
    settle(page)
    assert page.evaluate("() => convscope.store.get('lights').length") == 2
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#tab-gradient[aria-selected='true']")
    assert page.evaluate("() => convscope.store.get('weight').index") == [4, 0, 0, 0]


def test_clicks_go_deeper_and_back_one_level_at_a_time(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    tile = page.evaluate(
        "() => { const { camera } = convscope; const b = camera.boxOf('c3'); return [b.x - camera.x + 9, b.y + 9]; }"
    )
    board = page.locator("#board").bounding_box()
    page.mouse.click(board["x"] + tile[0], board["y"] + tile[1])
    page.wait_for_selector("body[data-shown$='/forward/c3/0/']")
    settle(page)
    out = page.evaluate(
        "() => { const h = convscope.hits.find((x) => x.panel.role === 'out'); return [h.x, h.y, h.w, h.h]; }"
    )
    page.mouse.click(board["x"] + out[0] + out[2] * 0.25, board["y"] + out[1] + out[3] * 0.55)
    page.wait_for_selector("body[data-shown$='/forward/c3/0/0,5,2']")
    assert page.locator("#crumbs li").count() == 4
    page.keyboard.press("Escape")
    page.wait_for_selector("body[data-shown$='/forward/c3/0/']")
    page.go_back()
    page.wait_for_selector("body[data-shown$='/forward/c3/0/0,5,2']")
    page.locator("#crumbs button").first.click()
    page.wait_for_selector("body[data-shown$='/forward///']")


def test_models_with_numbers_that_are_none(visit: Callable[..., Any]) -> None:
    """A network whose numbers have overflown is shown with them."""
    model = MODELS["plain"]()
    with torch.no_grad():
        model[6].weight.fill_(float("inf"))  # type: ignore[index]
    assert isinstance(model, nn.Module)
    with explore(model, port=0) as handle:
        page = visit(handle)
        select(page, "0", 0, [0, 3, 3])
        assert page.locator("#result .num").first.inner_text()
