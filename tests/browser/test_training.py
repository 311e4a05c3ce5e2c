"""Feature 4: three steps made on the page are torch's; rewinding restores every bit; resting numbers follow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, select, settle
from torch import nn

from convscope.explorer import Handle
from convscope.explorer.session import Session


def fill(page: Any, name: str, value: str) -> None:
    page.locator(f"#sgd-{name}").fill(value)
    page.locator(f"#sgd-{name}").press("Tab")
    settle(page, 250)


def weight_of(page: Any) -> tuple[str, tuple[int, ...]]:
    """The weight whose step the panel spells out."""
    name, index = page.locator("#tab-body p:has-text('[')").first.inner_text().split(": ")[1].split("[")
    return name, tuple(int(at) for at in index.rstrip("]").split(","))


def test_three_steps_in_the_page_are_torch_s(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")
    assert isinstance(lenet.session, Session)
    model = lenet.session.model
    twin = copy.deepcopy(model)
    start = copy.deepcopy(model.state_dict())
    page.evaluate("() => convscope.store.set({ tab: 'training' })")
    page.wait_for_selector("#sgd-hash")
    fingerprint = page.locator("#sgd-hash").inner_text()
    fill(page, "rate", "0.02")
    fill(page, "momentum", "0.9")
    fill(page, "decay", "0.001")
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.02, momentum=0.9, weight_decay=0.001)
    for turn in range(3):
        if turn == 2:
            fill(page, "rate", "0.01")
            optimiser.param_groups[0]["lr"] = 0.01
        page.locator("#sgd-step").click()
        page.wait_for_selector(f"#sgd-steps:has-text('{turn + 1} steps')")
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(twin(lenet.session.snapshot.question.x), torch.tensor([8])))
        optimiser.step()
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        name, place = weight_of(page)
        made = exact(page, "#beats li[data-beat=weight] .num >> nth=1")
        assert made == pytest.approx(float(model.get_parameter(name).detach()[place]), abs=1e-6)
    assert page.locator("#sgd-hash").inner_text() != fingerprint
    page.locator("#sgd-rewind").click()
    page.wait_for_selector("#sgd-steps:has-text('0 steps')")
    assert page.locator("#sgd-hash").inner_text() == fingerprint
    assert all(torch.equal(each, start[name]) for name, each in model.state_dict().items())


def test_the_beats_come_one_by_one(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8", motion="no-preference")
    page.evaluate("() => convscope.store.set({ tab: 'training' })")
    page.locator("#sgd-step").click()
    seen: list[str] = []
    for _ in range(400):
        now = page.evaluate("() => document.querySelector('#beats li.now')?.dataset.beat ?? null")
        if now and (not seen or seen[-1] != now):
            seen.append(now)
        if len(seen) == 7:
            break
        page.wait_for_timeout(15)
    assert seen == ["forward", "loss", "backward", "gradient", "decay", "momentum", "weight"]


def test_the_number_under_a_resting_pointer_follows(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")
    page.evaluate("() => convscope.store.set({ tab: 'training' })")
    tile = page.evaluate(
        "() => { const { camera } = convscope; const b = camera.boxOf('c1'); return [b.x - camera.x + 15, b.y + 15]; }"
    )
    board = page.locator("#board").bounding_box()
    page.mouse.move(board["x"] + tile[0], board["y"] + tile[1])
    page.wait_for_selector("#tip[data-exact]")
    settle(page)
    before = page.locator("#tip").get_attribute("data-exact")
    page.evaluate("() => document.querySelector('#sgd-step').click()")
    page.wait_for_selector("#sgd-steps:has-text('1 step')")
    settle(page, 400)
    after = page.locator("#tip").get_attribute("data-exact")
    assert after != before
    assert isinstance(lenet.session, Session)
    hover = page.evaluate("() => convscope.store.get('hover')")
    y = lenet.session.snapshot.layers["c1"].y[0, hover["map"], hover["cell"][0], hover["cell"][1]]
    assert float(after) == pytest.approx(float(y))


def test_the_step_s_panel_names_what_would_change(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")
    select(page, "c3", 2, None, tab="training")
    page.wait_for_selector("#compare")
    assert isinstance(lenet.session, Session)
    text = page.locator("#compare").inner_text()
    assert "8 ◂" in text
