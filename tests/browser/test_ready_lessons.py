"""The ready lessons, followed in the browser by keys alone from start to end, offline, in both languages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.browser.test_lessons import at_step, focused, press, typed

from convscope.explorer.lessons import READY, build_lessons

SIZES = {"convolution": (1440, 900), "pooling": (390, 844), "backpropagation": (1024, 768), "training": (1440, 900)}


IN_SIGHT = """() => {
  const verdict = document.querySelector('#lesson-verdict p').getBoundingClientRect();
  const body = document.querySelector('#lesson-body').getBoundingClientRect();
  return verdict.top >= body.top - 1 && verdict.bottom <= body.bottom + 1;
}"""


def answer(page: Any, question: dict[str, Any]) -> None:
    """The right answer by keys, from where the focus is put."""
    if question["kind"] == "number":
        assert focused(page) == "lesson-number"
        typed(page, question["exact"])
    elif question["kind"] == "choice":
        assert focused(page) == "lesson-choice"
        press(page, "Space", *["ArrowDown"] * question["right"], "Enter")
    else:
        choose(page, question["accept"][0])
        press(page, "q", "Enter")


def choose(page: Any, unit: list[int]) -> None:
    """From "To the network" to the unit on the board: Enter opens the middle, the arrows move."""
    assert focused(page) == "lesson-board"
    press(page, "Enter")
    rows, columns = page.evaluate("convscope.model.sizeOf(convscope.store.get('layer'))")
    chosen = page.evaluate("convscope.store.get('unit')")
    if chosen is None:
        press(page, "Enter")
        chosen = [unit[0], rows // 2, columns // 2]
    down, right = unit[1] - chosen[1], unit[2] - chosen[2]
    press(page, *["ArrowDown" if down > 0 else "ArrowUp"] * abs(down))
    press(page, *["ArrowRight" if right > 0 else "ArrowLeft"] * abs(right))
    ending = "/".join(map(str, unit))
    page.wait_for_function("(s) => document.querySelector('#lesson-chosen')?.textContent.endsWith(s)", arg=f"/{ending}")


@pytest.mark.long
@pytest.mark.parametrize("name", READY)
def test_followed_by_keys_alone(name: str, open_file: Callable[..., Any], tmp_path: Path) -> None:
    (path,) = build_lessons([name], tmp_path)
    page = open_file(path, size=SIZES[name], lang="zh" if name == "pooling" else "en")
    steps = page.evaluate("convscope.model.lesson.steps")
    for number, step in enumerate(steps, 1):
        at_step(page, number)
        state = step["state"]
        number_of_map = "" if state["map"] is None else state["map"]
        shown = f"{state['layer'] or ''}/{number_of_map}/{','.join(map(str, state['unit'] or []))}"
        page.wait_for_selector(f"body[data-shown$='/{state['tab']}/{shown}']")
        question = step["question"]
        if question is not None:
            assert page.locator("#lesson-next").is_disabled()
            if question["cover"]:
                assert page.evaluate("getComputedStyle(document.querySelector('#result .num')).visibility") == "hidden"
                shown_number = float(page.locator("#result .num").first.get_attribute("data-exact"))
                assert shown_number == pytest.approx(question["exact"], rel=1e-9, abs=1e-13)  # the page's own float64
            answer(page, question)
            page.wait_for_selector("#lesson-verdict[data-right='true']")
            at_step(page, number)
            assert page.evaluate(IN_SIGHT)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[name][0]
        assert focused(page) == "lesson-next"
        press(page, "Enter")
    page.wait_for_selector("#lesson-summary")
    asked = sum(step["question"] is not None for step in steps)
    assert str(asked) in page.locator("#lesson-summary").inner_text()
    kept = page.evaluate("convscope.lesson.kept.results.filter((each) => each.right && each.tries === 1).length")
    assert kept == asked
