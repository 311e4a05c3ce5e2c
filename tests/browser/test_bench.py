"""Evidence, what a unit likes, what if, health: each on the page as in Python, and each can be ended."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, select, settle
from torch import nn

from convscope.data import Dataset
from convscope.explorer import Handle, explore
from convscope.explorer.session import Session
from convscope.inspect.attribution import METHODS, attribute, honesty, top_examples
from convscope.models import create_model


def session_of(handle: Handle) -> Session:
    assert isinstance(handle.session, Session)
    return handle.session


def open_tab(page: Any, tab: str) -> None:
    page.locator(f"#tab-{tab}").click()
    page.wait_for_selector(f"body[data-shown*='/{tab}/']")


def test_the_bench_shows_every_method_with_its_checks(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    x, said = session.snapshot.question.x, session.snapshot.predicted
    open_tab(page, "bench")
    rows = page.locator("#bench-table tbody tr")
    assert rows.evaluate_all("all => all.map((each) => each.dataset.method)") == METHODS.names()
    for method in ("gradient", "guided_backprop", "class_activation_map"):
        page.locator(f"tr[data-method={method}] button").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        if method == "class_activation_map":  # the network does not end in the mean of its maps: said, not drawn
            assert "ends in the mean of each map" in page.locator("#bench-failed").inner_text()
            continue
        page.wait_for_selector(f"tr[data-method={method}] canvas")
        expected = honesty(session.model, x, said, method)
        row = f"tr[data-method={method}]"
        numbers = [
            float(each) for each in page.locator(f"{row} .num").evaluate_all("all => all.map((n) => n.dataset.exact)")
        ]
        wanted = [
            expected.deletion.area, expected.by_chance[0], expected.insertion.area, expected.by_chance[1],
            expected.randomised[-1].agreement,
        ]  # fmt: skip
        assert numbers == pytest.approx(wanted, rel=1e-3, abs=1e-4)
        bars = page.locator("#bench-random .num").evaluate_all("all => all.map((n) => Number(n.dataset.exact))")
        assert bars == pytest.approx([each.agreement for each in expected.randomised], abs=1e-3)
        shown = page.evaluate("() => convscope.store.get('evidence').method")
        assert shown == method
    assert page.locator("tr[data-method=guided_backprop] .warned").count() == 1
    assert page.locator("tr[data-method=gradient] .warned").count() == 0


def test_the_bench_explains_a_unit(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    select(page, "c3", 2, [2, 3, 4], "bench")
    assert "(2, 3, 4)" in page.locator("#bench-about").inner_text()
    page.locator("tr[data-method=gradient] button").click()
    page.wait_for_function("() => convscope.store.get('evidence')?.method === 'gradient'")
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    shown = torch.tensor(page.evaluate("() => [...convscope.store.get('evidence').values]"))
    expected = attribute(session.model, session.snapshot.question.x, "c3[2, 3, 4]", "gradient")[0, 0]
    torch.testing.assert_close(shown, expected.flatten(), rtol=1e-4, atol=1e-6)


def test_what_a_map_likes(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = session_of(lenet)
    select(page, "c3", 5, tab="likes")
    page.locator("#find-patches").click()
    page.wait_for_selector("#patches button >> nth=8")
    assert session.desk.data is not None
    expected = top_examples(session.model, session.desk.data, "c3", 5, 9)
    found = page.locator("#patches button").evaluate_all(
        "all => all.map((each) => [each.dataset.index, each.dataset.box])"
    )
    assert [(int(index), json.loads(box)) for index, box in found] == [
        (each.index, [list(side) for side in each.box]) for each in expected
    ]
    page.locator("#grow").click()
    page.wait_for_selector("#grown-to")
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    assert session.growing is not None
    history = session.growing.history
    assert len(history) == 129
    assert exact(page, "#grown-to .num") == pytest.approx(history[-1])
    assert history[-1] >= 10 * abs(history[0])
    page.locator("#patches button >> nth=0").click()
    page.wait_for_function("(index) => convscope.store.get('frame')?.source?.index === index", arg=expected[0].index)


def test_a_long_climb_is_ended_and_gives_way(visit: Callable[..., Any]) -> None:
    """A wide network takes long for it: the page ends it, and what is asked meanwhile goes before it."""
    torch.manual_seed(0)
    widths = (3, 48, 48, 48, 48)
    layers = [nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 3)).eval()
    with explore(model, port=0, input_shape=(3, 96, 96)) as handle:
        page = visit(handle)
        select(page, "3", 5, tab="likes")
        page.locator("#grow").click()
        page.wait_for_selector("#grown canvas")
        page.locator("#detail [data-cancel]").click()
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
        growing = session_of(handle).growing
        assert growing is not None
        assert 0 < len(growing.history) < 129
        page.locator("#grow").click()
        page.wait_for_selector("#detail [data-cancel]:visible")
        blank = "{ kind: 'blank' }, new Uint8Array(3 * 96 * 96)"
        page.evaluate(f"() => convscope.frames.change('show_pixels', {blank}, 'pixels')")
        assert page.evaluate("() => convscope.store.get('frame').source.kind") == "blank"
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")


def test_what_if(visit: Callable[..., Any], lenet: Handle) -> None:
    """The logits after each edit are those of the same edit in Python; taken back, every weight is as it was."""
    page = visit(lenet)
    session = session_of(lenet)
    before = {name: value.clone() for name, value in session.model.named_parameters()}
    x = session.snapshot.question.x
    select(page, "c3", 5, tab="surgery")
    page.locator("#silence").click()
    page.wait_for_selector("#edits li >> nth=0")
    select(page, "c1", 2, tab="surgery")
    page.locator("#surgery-value").fill("0.75")
    page.locator("#set-weight").click()
    page.wait_for_selector("#edits li >> nth=1")
    page.locator("#flip-kernel").click()
    page.wait_for_selector("#edits li >> nth=2")
    twin: nn.Module = create_model("lenet5", activation="relu", pool="max").eval()
    twin.load_state_dict(before)
    with torch.no_grad():
        twin.get_parameter("c3.weight")[5] = 0
        twin.get_parameter("c3.bias")[5] = 0
        twin.get_parameter("c1.weight")[2, 0, 2, 2] = 0.75
        twin.get_parameter("c1.weight")[2, 0] *= -1
        expected = twin(x)[0]
    logits = torch.tensor(page.evaluate("() => convscope.store.get('frame').logits"))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    page.locator("#undo").click()
    page.wait_for_function("() => document.querySelectorAll('#edits li').length === 2")
    page.locator("#undo-all").click()
    page.wait_for_selector("p#edits")
    assert all(torch.equal(value, before[name]) for name, value in session.model.named_parameters())


def test_health(visit: Callable[..., Any], lenet: Handle) -> None:
    """Three maps whose bias is −100 never fire; exactly those are named."""
    session = session_of(lenet)
    with torch.no_grad():
        session.model.get_parameter("c3.bias")[[1, 4, 11]] = -100
        session.model.get_parameter("f5.bias")[7] = -100
    session.stepper.forget_hash()
    session.snapshot = session.make_snapshot(session.picture)
    page = visit(lenet)
    open_tab(page, "health")
    page.locator("#health-count").fill("200")
    page.locator("#examine").click()
    page.wait_for_selector("#health-table")
    dead = page.locator("[data-dead]").evaluate_all("all => all.map((each) => each.dataset.dead)")
    assert [each for each in dead if each.startswith("c3")] == [f"c3_activation/{map}" for map in (1, 4, 11)]
    assert "f5_activation/7" in dead
    assert exact(page, "#health-table tr[data-layer=c3_activation] .num") == 3
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
    settle(page)


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


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_new_tabs_by_keys_without_clipping(
    visit: Callable[..., Any], lenet: Handle, lang: str, size: tuple[int, int]
) -> None:
    page = visit(lenet, lang=lang, size=size)
    select(page, "c3", 2)
    page.locator("#board").focus()
    for key, tab in (("a", "bench"), ("l", "likes"), ("w", "surgery"), ("h", "health")):
        page.keyboard.press(key)
        page.wait_for_selector(f"body[data-shown*='/{tab}/']")
        beyond = (
            "(all) => all.filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"
        )
        assert page.locator("#detail *").evaluate_all(beyond) == []


def test_what_runs_is_shown_in_a_panel_drawn_anew(visit: Callable[..., Any], lenet: Handle) -> None:
    """The panel is drawn again while the jobs run (as another language or a newer frame makes it): nothing is lost."""
    page = visit(lenet)
    again = "async (button) => { document.querySelector(button).click(); await convscope.ondetail(); }"
    select(page, "c3", 5, tab="likes")
    for button, found in (("#grow", "#grown canvas"), ("#find-patches", "#patches button >> nth=8")):
        page.evaluate(again, button)
        page.wait_for_selector(found)
        page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    open_tab(page, "bench")
    page.evaluate(again, "tr[data-method=gradient] button")
    page.wait_for_selector("#bench-random")
    page.wait_for_function("() => document.querySelector('#detail .running')?.hidden")
    open_tab(page, "health")
    page.evaluate(again, "#examine")
    page.wait_for_selector("#health-table")
