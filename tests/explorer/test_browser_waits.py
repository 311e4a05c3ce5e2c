"""What the browser tests wait for: one that throws while the page is not that far fails the test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

BROWSER = Path(__file__).parents[1] / "browser"
# what may be null or not there yet, read on without "?."
UNSURE = re.compile(
    r"querySelector\([^()]*\)\.|\.(?:get|find)\('[^']*'\)\."
    r"|\b(?:elastic|current|frame|lesson|hover|lab|layout|field|evidence|unit|weight|source)\."
)


def conditions(text: str) -> list[str]:
    """The scripts given to ``wait_for_function``."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    waits = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "wait_for_function"]
    scripts = [call.args[0] for call in waits]
    assert all(isinstance(script, ast.Constant) for script in scripts), "a condition is written where it is waited for"
    return [str(script.value) for script in scripts if isinstance(script, ast.Constant)]


@pytest.mark.parametrize("path", sorted(BROWSER.glob("*.py")), ids=lambda path: path.stem)
def test_no_condition_throws_on_what_is_not_there_yet(path: Path) -> None:
    assert [script for script in conditions(path.read_text("utf-8")) if UNSURE.search(script)] == []


@pytest.mark.parametrize(
    "script",
    [
        "convscope.selection.elastic.map === 9", "document.querySelector('#film-at').value === '0'",
        "convscope.store.get('frame').label === 7", "convscope.store.get('frame')?.source.index === 7",
    ],
)  # fmt: skip
def test_what_throws_is_found(script: str) -> None:
    assert conditions(f"page.wait_for_function({script!r}, arg=1)") == [script]
    assert UNSURE.search(script)
    assert not UNSURE.search(re.sub(r"(?<!\?)\.(?=\w+(\(| ===))", "?.", script))
