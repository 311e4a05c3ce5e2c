"""What the tests do on a page and read from it."""

from __future__ import annotations

from typing import Any

from convscope.explorer import Handle
from convscope.explorer.session import Session


def select(
    page: Any, layer: str, number: int | None = None, unit: list[int] | None = None, tab: str = "forward"
) -> None:
    """Go there as a click would, and wait until the panel shows it."""
    page.evaluate(
        "([layer, map, unit, tab]) => { convscope.store.set({ tab }); convscope.selection.select(layer, map, unit); }",
        [layer, number, unit, tab],
    )
    shown = "/".join(["", tab, layer, "" if number is None else str(number), ",".join(map(str, unit or []))])
    page.wait_for_selector(f"body[data-shown$='{shown}']")


def settle(page: Any, milliseconds: int = 150) -> None:
    page.wait_for_timeout(milliseconds)


def exact(page: Any, selector: str) -> float:
    """The full value behind a printed number."""
    return float(page.locator(selector).first.get_attribute("data-exact"))


def printed(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def table(page: Any) -> dict[str, Any]:
    """The sum as printed: kind of each row, its label, its last number as text and exactly."""
    rows = page.evaluate(
        """() => [...document.querySelectorAll('#tab-body table.sum tbody tr')].map((row) => {
          const numbers = [...row.querySelectorAll('.num')];
          const last = numbers[numbers.length - 1];
          return { kind: row.className, label: row.cells[0].textContent, text: last?.textContent ?? '',
                   exact: last?.dataset.exact ?? '' };
        })"""
    )
    return {"rows": rows, "kinds": [row["kind"].split(" ")[0] for row in rows]}


def session_of(handle: Handle) -> Session:
    assert isinstance(handle.session, Session)
    return handle.session


def open_tab(page: Any, tab: str) -> None:
    page.locator(f"#tab-{tab}").click()
    page.wait_for_selector(f"body[data-shown*='/{tab}/']")
