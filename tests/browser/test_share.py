"""Feature 16: the address brings the view back; pictures, a page without a server, code that prints the number."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.browser.pages import exact, select, session_of, settle
from tests.browser.test_lab import FILL
from tests.explorer.fixtures import printed_by

from convscope.explorer import Handle, serve
from convscope.explorer.session import Session

NUMBERS = "() => [...document.querySelectorAll('[data-exact]')].map((each) => each.dataset.exact)"


def stepped(page: Any) -> None:
    """What the next step would do after two, so that weights, momentum and settings are not those of the start."""
    select(page, "c3", 2, tab="training")
    page.locator("#sgd-momentum").fill("0.5")
    page.locator("#sgd-momentum").press("Tab")
    for turn in ("1 step", "2 steps"):
        page.locator("#sgd-step").click()
        page.wait_for_selector(f"#sgd-steps:has-text('{turn}')")
    page.evaluate("() => convscope.frames.change('ask', { target: 6 })")
    select(page, "c3", 5, tab="training")
    page.wait_for_selector("#compare")


def pixel(page: Any) -> None:
    page.evaluate("() => convscope.store.set({ layer: null, map: null, unit: null, tab: 'field', pixel: [9, 14] })")
    page.wait_for_selector("#pixel-delta-0")


def weighed(page: Any) -> None:
    page.evaluate("() => convscope.store.set({ weight: { parameter: 'weight', index: [5, 3, 1, 4] } })")
    select(page, "c3", 5, tab="gradient")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.weight-index')].map((each) => each.value).join() === '5,3,1,4'"
    )


def ruled(page: Any) -> None:
    page.evaluate("() => convscope.store.set({ rule: 'guided', show: 'delta' })")
    select(page, "s2", 1, [1, 3, 7], tab="backward")


def edited(page: Any) -> None:
    select(page, "c3", 5, tab="surgery")
    page.locator("#silence").click()
    page.wait_for_selector("#edits li")


def convolved(page: Any) -> None:
    page.evaluate("() => convscope.store.set({ tab: 'lab' })")
    page.wait_for_selector("#lab-sum .num")
    page.evaluate(
        FILL, [["#lab-size-k", 0, 2], [".lab-weight", 1, -0.75], ["#lab-stride", 0, 2], ["#lab-transpose", 0, True]]
    )
    page.wait_for_selector("body[data-shown*='/lab/']")


VIEWS: dict[str, Callable[[Any], None]] = {
    "value": lambda page: select(page, "output", 6, [6]),
    "map": lambda page: select(page, "c3", 5),
    "delta": lambda page: select(page, "c3", 5, [5, 3, 7], tab="backward"),
    "delta by a rule": ruled,
    "gradient": lambda page: select(page, "c3", 5, [5, 3, 7], tab="gradient"),
    "gradient of a weight": weighed,
    "field": lambda page: select(page, "c3", 5, [5, 3, 7], tab="field"),
    "field of a pixel": pixel,
    "step": stepped,
    "what if": edited,
    "lab": convolved,
}


QUICK = ("delta by a rule", "step", "lab")


@pytest.mark.parametrize(
    "view", [view if view in QUICK else pytest.param(view, marks=pytest.mark.long) for view in VIEWS]
)
def test_reloading_shows_the_same_numbers(visit: Callable[..., Any], lenet: Handle, view: str) -> None:
    """By the page's own reload, and by its address in another window after the server has moved on to another picture
    and class: every number that stands on the page, to the last digit."""
    page, session = visit(lenet), session_of(lenet)
    page.evaluate("() => convscope.frames.change('show_data', { split: 'test', index: 7 })")
    page.evaluate("() => convscope.frames.change('ask', { target: 6 })")
    VIEWS[view](page)
    shown = page.evaluate("() => document.body.dataset.shown.split('/').slice(1).join('/')")
    before, address = page.evaluate(NUMBERS), page.url
    assert len(before) > 7
    page.reload()
    for other in (page, None):
        if other is None:
            session.load_upload(_png(), "upload")
            other = visit(lenet, "#" + address.split("#", 1)[1])
        other.wait_for_selector(f"body[data-ready][data-shown$='{shown}']")
        other.wait_for_function(
            """before => {
              const now = [...document.querySelectorAll('[data-exact]')].map((each) => each.dataset.exact);
              return JSON.stringify(now) === JSON.stringify(before);
            }""",
            arg=before,
        )


def test_a_drawn_picture_travels_in_the_link(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    page.evaluate(
        "() => convscope.frames.change('show_pixels', { kind: 'drawn' }, "
        "new Uint8Array(784).fill(99, 100, 300), 'pixels')"
    )
    settle(page, 300)
    address = page.url
    assert "px=" in address
    page.evaluate("() => convscope.frames.change('show_data', { split: 'test', index: 0 })")
    settle(page, 300)
    other = visit(lenet, "#" + address.split("#", 1)[1])
    settle(other, 300)
    assert isinstance(lenet.session, Session)
    assert set(lenet.session.picture.pixels.flatten()[100:300].tolist()) == {99}
    assert lenet.session.picture.source["kind"] == "shared"


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 30), (200, 10, 90)).save(out, "PNG")
    return out.getvalue()


def saved(page: Any, entry: str) -> bytes:
    page.locator("#share-button").click()
    with page.expect_download() as waiting:
        page.locator(f"#{entry}").click()
    return Path(waiting.value.path()).read_bytes()


def test_pictures_of_the_view(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    select(page, "c3", 5, [5, 3, 7])
    settle(page, 300)
    picture = Image.open(io.BytesIO(saved(page, "share-png")))
    width = page.evaluate("() => convscope.stage.width")
    assert picture.width == 3 * width
    assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    drawing = saved(page, "share-svg").decode()
    assert drawing.startswith("<svg")
    assert drawing.count("<image") >= 8
    assert "Σ" in drawing
    assert "http://127" not in drawing
    said = page.locator("#said").inner_text()
    assert f"The network says: {said} " in drawing
    assert "lenet5 — c3 · 5 · (5, 3, 7)" in drawing
    assert picture.height == 3 * (page.evaluate("() => convscope.stage.height") + 76)
    assert saved(page, "share-npy")[:6] == b"\x93NUMPY"
    assert Image.open(io.BytesIO(saved(page, "share-input"))).size == (28, 28)


def test_the_saved_page_works_without_the_server(
    visit: Callable[..., Any], lenet: Handle, browser: Any, tmp_path: Path
) -> None:
    page = visit(lenet)
    context = browser.new_context(offline=True)
    errors: list[str] = []
    page.evaluate("() => { document.title = 'A & B <i>'; }")
    for tab in ("forward", "backward", "gradient", "field"):
        select(page, "c3", 5, [5, 3, 7], tab=tab)
        settle(page, 300)
        numbers = "all => all.map((each) => each.dataset.exact)"
        shown = page.locator("#tab-body [data-exact]").evaluate_all(numbers)
        path = tmp_path / f"{tab}.html"
        path.write_bytes(saved(page, "share-html"))
        opened = context.new_page()
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.goto(path.as_uri())
        assert len(shown) > 5
        assert opened.locator("#tab-body [data-exact]").evaluate_all(numbers) == shown, tab
        assert opened.locator("svg image").count() >= 8
        assert opened.locator("h1").inner_text() == opened.title() == "A & B <i>"
        assert opened.locator(".verdict #said").inner_text() == page.locator("#said").inner_text()
    assert errors == []
    context.close()


def test_the_copied_code_prints_the_number(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, "#/?target=8")
    assert isinstance(lenet.session, Session)
    plain, guided = (lenet.session.snapshot.deltas(rule)["c3"] for rule in ("plain", "guided"))
    unit = torch.nonzero((plain != 0) & (guided != 0) & (plain != guided))[0, 1:].tolist()
    asked: list[tuple[str, list[int], str, str]] = [
        ("c3", unit, "forward", "plain"),
        ("c3_activation", [5, 3, 7], "forward", "plain"),
        ("s2", [2, 4, 4], "forward", "plain"),
        ("output", [6], "forward", "plain"),
        ("c3", unit, "backward", "plain"),
        ("c3", unit, "backward", "guided"),
        ("f6", [20], "backward", "plain"),
        ("output", [8], "backward", "plain"),
        ("c3", unit, "gradient", "plain"),
        ("f6", [20], "gradient", "plain"),
        ("input", [0, 9, 14], "field", "plain"),
        ("input", [0, 9, 14], "field", "guided"),
    ]
    found = set()
    for layer, place, tab, rule in asked:
        page.evaluate("(rule) => convscope.store.set({ rule })", rule)
        if layer == "input":
            pixel(page)
        else:
            select(page, layer, place[0], place, tab=tab)
        settle(page)
        shown = exact(page, "#result .num, #pixel-delta-0 .num")
        found.add(shown)
        page.evaluate("() => { convscope.lastSnippet = null; document.querySelector('#notice').hidden = true; }")
        page.locator(".copy-pytorch").click()
        page.wait_for_function("() => convscope.lastSnippet")
        page.wait_for_selector("#notice:has-text('Copied')")
        code = page.evaluate("() => navigator.clipboard.readText()")
        assert float(printed_by(code)) == pytest.approx(shown, rel=1e-4, abs=1e-8), (layer, tab, rule)
    assert len(found) == len(asked)


def test_a_stopped_server_is_said_and_found_again(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    assert isinstance(lenet.session, Session)
    select(page, "c1", 2, [2, 4, 4], tab="training")
    page.locator("#live-run").click()  # it learns
    page.wait_for_function("() => Number(document.querySelector('#live-now')?.textContent.match(/[0-9]+/)?.[0]) > 2")
    session, port, token = lenet.session, lenet.port, lenet.token
    lenet.close()
    page.wait_for_selector("#notice:has-text('The server has stopped')")
    assert page.locator("body").get_attribute("data-connection") == "lost"
    page.evaluate("() => convscope.frames.change('show_data', { split: 'test', index: 1 }).catch(() => {})")
    page.locator("#share-button").click()
    page.locator("#share-npy").click()
    said = page.evaluate("() => document.querySelector('#notice').textContent")
    assert said.startswith("The server has stopped")
    page.locator("#language-button").click()
    page.wait_for_selector("#notice:has-text('服务器已停止')")
    page.locator("#language-button").click()
    page.wait_for_selector("#notice:has-text('The server has stopped')")
    with serve(session, port, token=token):
        page.wait_for_selector("body[data-connection=open]", timeout=15000)
        page.wait_for_selector("#notice:has-text('The server is back')")
        select(page, "c3", 1, [1, 2, 2])
        assert page.locator("#result .num").count() >= 1
    page.problems[:] = [each for each in page.problems if "ERR_" not in each]


def test_a_link_says_of_which_model_it_is(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    page.locator("#share-button").click()
    page.locator("#share-link").click()
    page.wait_for_selector("#notice:has-text('Link copied')")
    address = page.evaluate("() => navigator.clipboard.readText()")
    assert isinstance(lenet.session, Session)
    assert address.endswith(f"&model=lenet5%40{lenet.session.stepper.weight_hash()}")
    same = visit(lenet, "#" + address.split("#", 1)[1])
    settle(same, 300)
    assert not same.locator("#notice").is_visible()
    other = visit(lenet, "#" + address.split("#", 1)[1].replace("lenet5%40", "alexnet%40"))
    other.wait_for_selector("#notice:has-text('the one that is open is lenet5')")
    changed = visit(lenet, "#" + address.split("#", 1)[1][:-4] + "0000")
    changed.wait_for_selector("#notice:has-text('other weights')")
