"""Feature 15: two languages, keys alone, a screen reader, colour vision, a phone; and the first visit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.browser.pages import exact, select, settle

from convscope.explorer import Handle
from convscope.explorer.session import Session

AXE = (Path(__file__).parent / "vendor" / "axe-4.10.2.min.js").read_text("utf-8")
VIEWS: list[tuple[str, str, int | None, list[int] | None]] = [
    ("forward", "", None, None),
    ("forward", "c3", None, None),
    ("forward", "c3", 5, None),
    ("forward", "c3", 5, [5, 3, 7]),
    ("backward", "c3", 5, [5, 3, 7]),
    ("gradient", "c3", 5, [5, 3, 7]),
    ("field", "c3", 5, [5, 3, 7]),
    ("training", "c3", 5, [5, 3, 7]),
    ("forward", "s2", 2, [2, 4, 4]),
    ("forward", "output", 3, [3]),
]


def go(page: Any, view: tuple[str, str, int | None, list[int] | None]) -> None:
    tab, layer, number, unit = view
    if layer:
        select(page, layer, number, unit, tab=tab)
    settle(page, 200)


def clipped(page: Any) -> list[str]:
    """Texts that do not fit into their boxes, but for those that end in an ellipsis on purpose and have a title."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('button, h1, h2, p, dt, dd, th, td, label, summary, .num')]
        .filter((e) => {
          if (!e.offsetParent || e.closest('[title]') || e.closest('.unseen') || e.classList.contains('model-name'))
          return false; const style = getComputedStyle(e);
          if (style.overflowX === 'auto' || style.overflowX === 'scroll') return false;
          return e.scrollWidth > e.clientWidth + 1 && style.display !== 'inline';
        }).map((e) => e.outerHTML.slice(0, 140))"""
    )
    return found


@pytest.mark.parametrize("lang", [pytest.param("en", marks=pytest.mark.long), "zh"])
def test_every_text_is_there_and_fits(visit: Callable[..., Any], lenet: Handle, lang: str) -> None:
    page = visit(lenet, lang=lang)
    for view in VIEWS:
        go(page, view)
        text = page.locator("body").inner_text()
        assert "{" not in text.replace("{name}", "{")
        assert "undefined" not in text
        assert clipped(page) == [], view
        if lang == "zh":
            words = page.evaluate(
                """() => [...document.querySelectorAll(
                    '#tools button, .tabs button, #stage-tools button, #verdict h2, label')]
                  .filter((e) => e.offsetParent).map((e) => e.textContent)"""
            )
            english = [word for word in words if word and word.isascii() and word.strip("EN?☀☾ δ∂J/w←").isalpha()]
            assert english == [], view
    page.locator("#language-button").click()
    settle(page)
    assert page.evaluate("() => document.documentElement.lang") == ("en" if lang == "zh" else "zh-CN")


def test_a_unit_s_sum_by_keys_alone(visit: Callable[..., Any], lenet: Handle) -> None:
    """To conv "c3", map 5, unit (3, 7), and its sum, without a pointer; the value is spoken."""
    page = visit(lenet)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.dataset.layer") == "input"
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.layer") == "c3"
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('#live')?.textContent.includes('map 5')")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-shown$='/forward/c3/5/']")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-shown$='/forward/c3/5/5,5,5']")
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        settle(page, 60)
    page.wait_for_selector("body[data-shown$='/forward/c3/5/5,3,7']")
    assert isinstance(lenet.session, Session)
    true = float(lenet.session.snapshot.layers["c3"].y[0, 5, 3, 7])
    assert exact(page, "#result .num") == pytest.approx(true)
    page.wait_for_function("() => document.querySelector('#live')?.textContent.includes('c3, unit 5, 3, 7')")
    page.keyboard.press("b")
    page.wait_for_selector("body[data-shown$='/backward/c3/5/5,3,7']")
    page.keyboard.press("Escape")
    page.wait_for_selector("body[data-shown$='/backward/c3/5/']")
    page.keyboard.press("?")
    page.wait_for_selector("[role=dialog]")
    page.keyboard.press("Escape")
    assert page.locator("[role=dialog]").count() == 0


HEARD = """() => { window.heard = []; const live = document.querySelector('#live');
  new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true }); }"""
NAMES = {"←": "ArrowLeft", "→": "ArrowRight", "↑": "ArrowUp", "↓": "ArrowDown", "Esc": "Escape", "−": "-"}
SPOKEN = {  # of map 5 of c3, or its unit (3, 7); of what has the focus then, the browser speaks
    "←": (True, "c3, unit 5, 3, 6"), "→": (True, "c3, unit 5, 3, 8"), "↑": (True, "c3, unit 5, 2, 7"),
    "↓": (True, "c3, unit 5, 4, 7"), "Enter": (False, "c3, unit 5, 5, 5"), "PageUp": (False, "c3, map 4"),
    "PageDown": (False, "c3, map 6"), "Home": (False, "c3, map 0"), "End": (False, "c3, map 15"),
    "Esc": (True, "c3, map 5"), "F": (False, "Value"), "B": (True, "c3, unit 5, 3, 7: δ"), "G": (True, "∂J/∂w"),
    "R": (True, "Field"), "S": (True, "Step"), "A": (True, "Evidence"), "L": (True, "Likes"), "W": (True, "What if"),
    "D": (True, "Beside"), "H": (True, "Health"), "C": (True, "Lab"), "1": (True, "Activations"),
    "2": (True, "Sensitivities"), "3": (True, "Weights"), "4": (True, "Gradients"), "[": (False, "inputs 1–6 of 6"),
    "]": (False, "inputs 1–6 of 6"), "+": (True, "125 %"), "−": (True, "100 %"), "0": (True, "100 %"), "9": (True, "%"),
    "/": (True, "#find-layer"), "P": (True, "#pad"), "?": (True, "[role=dialog] button"),
}  # fmt: skip


def test_every_key_of_the_help_does_what_it_says(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    page.evaluate(HEARD)
    page.keyboard.press("?")
    assert sorted(page.locator("[role=dialog] kbd").all_inner_texts()) == sorted(SPOKEN)
    page.keyboard.press("Escape")
    for key, (deep, said) in SPOKEN.items():
        select(page, "c3", 5, [5, 3, 7] if deep else None)
        page.locator("#board").focus()
        page.evaluate("() => { heard.length = 0; }")
        page.keyboard.press(NAMES.get(key, key))
        if said[0] in "#[":  # what has the focus then
            page.wait_for_selector(f"{said}:focus")
            page.keyboard.press("Escape")
        else:
            page.wait_for_function("(said) => heard.some((text) => text.includes(said))", arg=said)
    page.evaluate("() => { convscope.store.set({ tab: 'forward', show: 'activation' }); }")
    select(page, "c3")
    page.locator("#board").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => heard.at(-1).startsWith('c3, map 0')")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-shown$='/forward/c3/0/']")
    page.keyboard.press("ArrowDown")  # the first of the arrows takes the middle
    page.wait_for_selector("body[data-shown$='/forward/c3/0/0,5,5']")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("body[data-shown$='/forward/c3/0/0,6,5']")


def test_the_focus_stays_on_a_layer_s_name_that_goes_out_of_sight(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(1024, 768))
    page.evaluate("() => convscope.focusHead('c1')")
    page.evaluate("() => { convscope.camera.zoomTo(4); convscope.camera.move(9999); }")
    assert page.evaluate("() => document.activeElement.dataset.layer") == "c1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.layer") not in (None, "c1")


def test_a_digit_is_drawn_and_a_pixel_set_by_keys(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet)
    session = lenet.session
    assert isinstance(session, Session)
    page.evaluate(HEARD)
    page.locator("#clear").click()
    page.wait_for_function("() => convscope.store.get('frame')?.source?.kind === 'blank'")
    page.keyboard.press("p")
    assert page.evaluate("() => document.activeElement.id") == "pad"
    page.keyboard.press("ArrowUp")
    page.wait_for_function("() => heard.at(-1)?.trim() === 'row 13, column 14: 0'")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowUp")  # an eighth of the side
    page.keyboard.press("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.wait_for_function("() => heard.at(-1)?.startsWith('Pen up. The network says: ')")
    drawn = session.picture.pixels[0, 0]
    assert session.picture.source["kind"] == "drawn"
    assert drawn[5:22, 14].tolist() == [255] * 17
    assert int((drawn > 0).sum()) < 19 * 5
    assert session.classes[session.snapshot.predicted or 0] in page.evaluate("() => heard.at(-1)")
    page.locator("#tool-poke").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "tool-poke"
    page.keyboard.press("p")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => heard.at(-1)?.trim() === 'row 21, column 11: 255'")
    found = (session.picture.pixels[0, 0] != drawn).nonzero().tolist()
    assert found == [[21, 11]]


@pytest.mark.parametrize(
    ("size", "theme"),
    [
        ((1440, 900), "light"),
        pytest.param((1440, 900), "dark", marks=pytest.mark.long),
        pytest.param((390, 844), "light", marks=pytest.mark.long),
        pytest.param((390, 844), "dark", marks=pytest.mark.long),
    ],
)
def test_axe_finds_nothing_serious(visit: Callable[..., Any], lenet: Handle, theme: str, size: tuple[int, int]) -> None:
    page = visit(lenet, theme=theme, size=size)
    for view in VIEWS:
        go(page, view)
        page.evaluate(AXE)
        found = page.evaluate("async () => (await axe.run(document, { resultTypes: ['violations'] })).violations")
        serious = [
            (each["id"], [node["html"][:160] for node in each["nodes"]][:4])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], view


def test_signs_can_be_told_apart(visit: Callable[..., Any], lenet: Handle) -> None:
    """Each kind's two ends stay apart under every deficiency (in full colour blindness the sign is written out)."""
    page = visit(lenet)
    devtools = page.context.new_cdp_session(page)
    for deficiency in ("protanopia", "deuteranopia", "tritanopia", "achromatopsia"):
        devtools.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
        settle(page)
        ramps = page.locator("#legend canvas").all()
        assert len(ramps) == 4
        for ramp in ramps:
            picture = np.asarray(Image.open(io.BytesIO(ramp.screenshot())).convert("RGB"), float)
            row = picture[picture.shape[0] // 2]
            left, right, middle = row[3], row[-4], row[len(row) // 2]
            if deficiency != "achromatopsia":
                assert np.linalg.norm(left - right) > 40, deficiency
            assert np.linalg.norm(left - middle) > 60, deficiency
            assert np.linalg.norm(right - middle) > 60, deficiency
    select(page, "c3", 5, [5, 3, 7])
    assert "−" in page.locator("#tab-body table.sum").inner_text()
    assert page.locator(".legend .scale").first.inner_text().count("−") == 1


def test_a_phone_shows_everything_without_overlap(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, size=(390, 844))
    for view in VIEWS:
        go(page, view)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        overlaps = page.evaluate(
            """() => { const boxes = [...document.querySelectorAll('button, select, input:not(.unseen)')]
                .filter((e) => e.offsetParent && !e.closest('#heads') && !e.matches('.unseen, .skip'))
                .map((e) => [e, e.getBoundingClientRect()]);
              const found = [];
              for (let i = 0; i < boxes.length; i++) for (let k = i + 1; k < boxes.length; k++) {
                const [a, p] = boxes[i], [b, q] = boxes[k];
                if (a.contains(b) || b.contains(a)) continue;
                const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                if (w > 2 && h > 2) found.push([a.outerHTML.slice(0, 80), b.outerHTML.slice(0, 80)]);
              } return found; }"""
        )
        assert overlaps == [], view


@pytest.mark.parametrize("lang", [pytest.param("en", marks=pytest.mark.long), "zh"])
def test_the_tour_by_keys(visit: Callable[..., Any], lenet: Handle, lang: str) -> None:
    """A first visit shows within a minute why, which strokes, and what a step would change; it is not shown again."""
    page = visit(lenet, lang=lang, tour=True)
    page.wait_for_selector("#tour")
    assert isinstance(lenet.session, Session)
    said = lenet.session.classes[lenet.session.snapshot.predicted or 0]
    titles = []
    for stop in range(5):
        settle(page, 500)
        titles.append(page.locator("#tour h2").inner_text())
        if stop == 0:
            assert said in titles[0]
        if stop == 1:
            assert page.locator("#tab-body table.sum").count() == 1
        if stop == 2:
            assert page.evaluate("() => convscope.store.get('evidence').method") == "occlusion"
        if stop == 3:
            assert page.locator("#compare").count() == 1
        page.keyboard.press("Enter")
    assert len(set(titles)) == 5
    settle(page)
    assert page.locator("#tour").count() == 0
    page.reload()
    page.wait_for_selector("body[data-ready]")
    settle(page, 300)
    assert page.locator("#tour").count() == 0


def test_light_and_dark_follow_the_system_and_the_switch(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, theme="dark")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    page.locator("#theme-button").click()
    assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
