"""A lesson in the browser: followed by keys alone, served and from a file, its progress kept, in both languages."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.pages import select
from tests.explorer.lessons_at_hand import LESSON
from torch import nn

from convscope.data import Dataset
from convscope.explorer import Handle
from convscope.explorer.lessons import lesson_of, save_page, sheet_of
from convscope.explorer.serve import serve
from convscope.explorer.session import Session


@pytest.fixture(scope="module")
def lesson_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lessons") / "lesson.toml"
    path.write_text(LESSON, "utf-8")
    return path


@pytest.fixture
def taught(trained: nn.Module, digits: Dataset, lesson_file: Path) -> Iterator[Handle]:
    session = Session(copy.deepcopy(trained), digits)
    session.lesson = lesson_of(session, lesson_file)
    with serve(session, 0) as handle:
        yield handle


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, trained: nn.Module, digits: Dataset, lesson_file: Path) -> Path:
    session = Session(copy.deepcopy(trained), digits)
    return save_page(session, tmp_path_factory.mktemp("saved") / "a.html", lesson=lesson_of(session, lesson_file))


def at_step(page: Any, number: int) -> None:
    """Wait until a step, from 1, is shown and the network stands where it belongs."""
    page.wait_for_function(
        "(n) => window.convscope?.lesson?.kept.at === n - 1 && !document.querySelector('#lesson')?.ariaBusy", arg=number
    )


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def typed(page: Any, number: float) -> None:
    """The number as a reader would write it, and Enter."""
    page.keyboard.type(f"{number:.5g}".replace("-", "−"))
    page.keyboard.press("Enter")


def walk_through(page: Any) -> None:
    """The lesson of ``lessons_at_hand``, from the first step to the last, by keys alone."""
    steps = page.evaluate("convscope.model.lesson.steps")
    at_step(page, 1)
    page.wait_for_function("() => window.convscope?.store.get('hover')?.map === 2")
    assert focused(page) == "lesson-next"
    press(page, "Enter")
    at_step(page, 2)
    assert focused(page) == "lesson-number"
    page.wait_for_selector("#result .num", state="attached")
    assert page.evaluate("getComputedStyle(document.querySelector('#result .num')).visibility") == "hidden"
    press(page, "Enter")
    assert "Type a number" in page.locator("#lesson-verdict").inner_text()
    exact = steps[1]["question"]["exact"]
    typed(page, -exact)
    assert "sign" in page.locator("#lesson-verdict").inner_text()
    assert page.locator("#lesson-next").is_disabled()
    typed(page, exact + 2 * steps[1]["question"]["tolerance"])
    assert "rounding" in page.locator("#lesson-verdict").inner_text()
    typed(page, exact)
    page.wait_for_selector("#lesson-verdict[data-right='true']")
    assert "That is the sum." in page.locator("#lesson-why").inner_text()
    assert float(page.locator("#lesson-verdict .num").get_attribute("data-exact")) == exact
    assert page.evaluate("document.querySelector('#live').textContent").startswith("Right")
    page.wait_for_function("() => window.convscope?.store.get('tab') === 'field'")
    assert focused(page) == "lesson-next"
    press(page, "Enter")
    at_step(page, 3)
    assert focused(page) == "lesson-choice"
    right = steps[2]["question"]["right"]
    press(page, "Space", *["ArrowDown"] * ((right + 1) % 3), "Enter")
    page.wait_for_selector("#lesson-reveal")
    press(page, "ArrowDown", "ArrowDown", "Enter")
    page.wait_for_selector("#lesson-verdict[data-right='true']")
    press(page, "Enter")
    at_step(page, 4)
    assert focused(page) == "lesson-board"
    (_, row, column), *_ = steps[3]["question"]["accept"]
    press(page, "Enter", "Enter", *["ArrowRight"] * ((column - 7) % 14), *["ArrowDown"] * ((row - 7) % 14))
    wanted = f"s2/0/{row}/{column}"
    page.wait_for_function("(s) => document.querySelector('#lesson-chosen')?.textContent === s", arg=wanted)
    press(page, "q")
    assert focused(page) == "lesson-answer"
    press(page, "Enter")
    page.wait_for_selector("#lesson-verdict[data-right='true']")
    press(page, "Enter")
    at_step(page, 5)
    page.wait_for_selector("body[data-shown*='/gradient/output']")
    assert page.evaluate("convscope.store.get('frame').steps") == 2
    typed(page, 99)
    press(page, "Tab", "Tab", "Enter")
    page.wait_for_selector("#lesson-verdict[data-right='false'] .num")
    assert focused(page) == "lesson-next"
    press(page, "Enter")
    assert page.locator("#lesson-summary").inner_text().startswith("3 of 4 questions answered, 1 of them")


def test_a_served_lesson_by_keys_alone(visit: Callable[..., Any], taught: Handle) -> None:
    walk_through(visit(taught))


@pytest.mark.long
def test_a_saved_lesson_by_keys_alone_and_its_progress(open_file: Callable[..., Any], saved: Path) -> None:
    page = open_file(saved)
    walk_through(page)
    page.reload()
    page.wait_for_selector("#lesson-restart")
    page.locator("#lesson-back").click()
    at_step(page, 5)
    page.reload()
    at_step(page, 5)
    assert page.locator("#lesson-verdict").get_attribute("data-right") == "false"
    page.locator("#language-button").click()
    assert page.locator("#lesson-title").inner_text() == "一步"
    page.evaluate("convscope.lesson.go(0)")
    page.wait_for_function("() => window.convscope?.store.get('frame')?.steps === 0")


ASKED: list[tuple[str, list[int], str]] = [
    ("c3", [5, 3, 7], "forward"), ("c3", [5, 3, 6], "backward"), ("c1", [0, 0, 2, 2], "gradient"),
    ("s2", [1, 3, 4], "forward"), ("output", [3], "backward"), ("c1_activation", [0, 3, 4], "forward"),
]  # fmt: skip
SPEAK = """async (lang) => {
  const inside = location.protocol === 'file:' ? 'convscope/core/i18n.js' : '/js/core/i18n.js';
  (await import(inside)).setLanguage(lang);
}"""


def pooled(sheet: str, direction: str) -> str:
    """A sheet without its picture; of a gradient's places that of their window under the 2×2 pooling above. On an even
    ground several of a window's sums are the same number, and which of them passes δ on is decided by its last bit."""
    text = without_picture(sheet)
    if direction != "gradient":
        return text
    return re.sub(r"\((\d+), (\d+)\)", lambda at: f"({int(at[1]) // 2}, {int(at[2]) // 2})", text)


@pytest.mark.long
def test_the_page_s_sheets_are_the_server_s(
    open_file: Callable[..., Any], saved: Path, visit: Callable[..., Any], taught: Handle
) -> None:
    offline, served = open_file(saved), visit(taught)
    session = taught.session
    assert isinstance(session, Session)
    for layer, index, direction in ASKED:
        name = f"{layer}.weight" if direction == "gradient" else layer
        of = {"forward": "value", "backward": "delta", "gradient": "gradient"}[direction]
        for lang in ("en", "zh")[: 2 if layer == "c3" else 1]:
            wanted = sheet_of(session, "/".join([name, *map(str, index)]), of, lang=lang)
            for page in (offline, served):
                page.evaluate(SPEAK, lang)
                asked = {"layer": layer, "index": index, "direction": direction, "lang": lang}
                found = page.evaluate("async (asked) => (await convscope.connection.ask('sheet', asked)).html", asked)
                assert pooled(found, direction) == pooled(wanted, direction), (layer, direction, lang)
    select(served, "c3", 5, [5, 3, 7])
    with served.expect_download() as caught:
        served.locator(".sheet-button").click()
    assert "c3/5/3/7" in Path(caught.value.path()).read_text("utf-8")


def without_picture(page: str) -> str:
    assert page.count("data:image/png;base64,") == 1
    return re.sub(r'src="data:[^"]+"', "", page)


def test_what_the_reader_changes_is_taken_back(visit: Callable[..., Any], taught: Handle) -> None:
    page = visit(taught, size=(390, 844), lang="zh")
    page.evaluate("convscope.lesson.go(1)")
    at_step(page, 2)
    before = page.evaluate("[...convscope.store.get('frame').logits]")
    page.evaluate("convscope.connection.ask('step')")
    page.evaluate("convscope.frames.change('show_data', { split: 'test', index: 7 })")
    page.evaluate("convscope.selection.select('f5', 3)")
    page.wait_for_function("() => window.convscope?.store.get('frame')?.source?.index === 7")
    page.locator("#lesson-again").click()
    page.wait_for_function("() => window.convscope?.store.get('layer') === 'c1'")
    assert page.evaluate("[...convscope.store.get('frame').logits]") == before
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
