"""Every screen: the network and the arithmetic are in sight, what is shown among the sensitivities is δ throughout."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.browser.pages import exact, select, settle

from convscope.explorer import Handle
from convscope.explorer.session import Session


def box(page: Any, selector: str) -> dict[str, float]:
    found: dict[str, float] = page.locator(selector).first.bounding_box()
    return found


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (1024, 768)])
def test_network_and_arithmetic_share_one_screen(
    visit: Callable[..., Any], lenet: Handle, size: tuple[int, int]
) -> None:
    page = visit(lenet, size=size)
    assert page.evaluate("() => convscope.camera.layout.width <= convscope.stage.width")
    assert page.evaluate("() => document.scrollingElement.scrollHeight <= innerHeight")
    assert box(page, "#board")["y"] < 310
    names = page.evaluate("() => [...document.querySelectorAll('#heads button')].map((e) => e.innerText)")
    assert "c3\n16 ×\n10×10" in names
    select(page, "c3", 5, [5, 3, 7])
    settle(page)
    board, result = box(page, "#board"), box(page, "#result")
    assert board["height"] > 350
    assert result["y"] + result["height"] < size[1]
    assert result["x"] >= board["x"] + board["width"]
    rows = page.locator("#tab-body tr.term")
    assert rows.nth(3).bounding_box()["y"] < size[1]


def test_a_finger_scrolls_a_phone_s_page_from_the_board(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(390, 844))
    board = box(page, "#board")
    assert board["y"] < 320
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    x, y = 200, board["y"] + 300
    devtools.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 12):
        devtools.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 12 * step}]})
        settle(page, 16)
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("() => scrollY > 80")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    moved = page.evaluate("() => { convscope.camera.move(80); return convscope.camera.x; }")
    assert moved == 80


def test_among_the_sensitivities_input_and_output_are_sensitivities(visit: Callable[..., Any], lenet: Handle) -> None:
    """The output column is p − t and the input ∂J/∂x, both autograd's; the pointer says the same numbers."""
    page = visit(lenet, "#/?target=5")
    page.evaluate("() => convscope.store.set({ show: 'delta' })")
    page.wait_for_function("() => convscope.store.get('frame')?.output_delta && convscope.frames.atlases.has('input')")
    assert isinstance(lenet.session, Session)
    x = lenet.session.snapshot.question.x.double().requires_grad_()
    logits = lenet.session.model.double()(x)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([5]))
    (grad_x, delta) = torch.autograd.grad(loss, (x, logits))
    shown = page.evaluate("() => convscope.store.get('frame').output_delta")
    torch.testing.assert_close(torch.tensor(shown, dtype=torch.float64), delta[0], rtol=1e-4, atol=1e-7)
    assert page.locator("#heads button[data-layer=input] b").inner_text() == "∂J/∂x"
    place = page.evaluate("() => { const b = convscope.camera.boxOf('input'); return [b.x, b.y, b.width, b.height]; }")
    board = box(page, "#board")
    page.mouse.move(board["x"] + place[0] + place[2] * 14.5 / 28, board["y"] + place[1] + place[3] * 12.5 / 28)
    page.wait_for_selector("#tip[data-exact]")
    assert exact(page, "#tip") == pytest.approx(float(grad_x[0, 0, 12, 14]), rel=1e-3, abs=1e-7)
    page.evaluate("() => convscope.store.set({ show: 'activation' })")
    page.wait_for_function("() => !convscope.frames.atlases.has('input')")


def test_the_board_shows_the_map_of_the_weight(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    select(page, "c3", 5, [5, 3, 7], tab="gradient")
    page.evaluate("() => convscope.store.set({ weight: { parameter: 'weight', index: [9, 2, 1, 1] } })")
    page.wait_for_function("() => convscope.store.get('map') === 9 && convscope.selection.elastic?.map === 9")
    assert page.evaluate("() => convscope.store.get('unit')") == [9, 3, 7]


@pytest.mark.long
def test_what_the_pointer_lights_leaves_nothing_behind(visit: Callable[..., Any], lenet: Handle) -> None:
    """Under the pointer only what is lit is drawn anew, over a copy of the rest: without it the board is as it was, and
    another language, size or colours have a copy of their own."""
    page = visit(lenet)
    look = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const { canvas } = convscope.stage;
      done(canvas.toDataURL());
    })))"""

    def rest_and_leave() -> tuple[str, str]:
        board = box(page, "#board")
        tile = page.evaluate(
            "() => { const b = convscope.camera.boxOf('c3'); return [b.x - convscope.camera.x, b.y]; }"
        )
        for step in (10, 12, 14):
            page.mouse.move(board["x"] + tile[0] + step, board["y"] + tile[1] + step)
            settle(page, 60)
        assert page.evaluate("() => convscope.stage.still.scene === convscope.stage.scene")
        lit = page.evaluate(look)
        page.mouse.move(5, 5)
        settle(page, 60)
        return lit, page.evaluate(look)

    seen = []
    for change in (
        "() => 0",
        "() => document.querySelector('#language-button').click()",
        "() => document.querySelector('#theme-button').click()",
        "() => convscope.store.set({ show: 'weight' })",
    ):
        page.evaluate(change)
        settle(page, 400)
        before = page.evaluate(look)
        lit, after = rest_and_leave()
        assert lit != before
        assert after == before
        seen.append(before)
    page.set_viewport_size({"width": 1280, "height": 720})
    settle(page, 400)
    before = page.evaluate(look)
    assert rest_and_leave()[1] == before
    assert len({*seen, before}) >= 4  # of the languages the board itself may show nothing


def test_keys_are_told_of_where_there_are_keys(visit: Callable[..., Any], lenet: Handle) -> None:
    """Not where a finger is the pointer."""
    page = visit(lenet, size=(390, 844))
    shown = "() => [...document.querySelectorAll('.by-keys')].map((each) => each.offsetParent !== null)"
    for place in ("", "c3/5"):
        page.evaluate("(hash) => { location.hash = hash; }", f"#/{place}")
        page.wait_for_selector(f"body[data-shown$='/forward/{place}/']" if place else "body[data-shown$='/forward///']")
        assert page.evaluate(shown) == [True]
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    assert page.evaluate("() => matchMedia('(pointer: coarse)').matches")
    page.keyboard.press("?")
    page.wait_for_selector("[role=dialog] p")
    assert page.evaluate(shown) == [False, False]
    assert page.locator("[role=dialog] p").is_visible()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_strip_s_rows_of_buttons_stand_close(visit: Callable[..., Any], lenet: Handle, lang: str) -> None:
    """On a projector, above the board: one gap between all rows."""
    page = visit(lenet, size=(1024, 768), lang=lang)
    rows = page.evaluate(
        """() => [...document.querySelectorAll('#input-side > .row')].map((each) => each.getBoundingClientRect())
          .map(({ top, bottom }) => [top, bottom])"""
    )
    gaps = [below - bottom for (_, bottom), (below, _) in itertools.pairwise(rows)]
    assert len(gaps) == 2
    assert gaps == pytest.approx([8, 8], abs=1)
    assert page.locator("#stages-box summary").bounding_box()["y"] < page.locator("#board").bounding_box()["y"]
