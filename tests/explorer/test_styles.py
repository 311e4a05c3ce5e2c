"""The page's style sheets: a brace too many or too few makes a browser leave a rule out, without a word."""

from __future__ import annotations

from importlib import resources

import pytest

SHEETS = sorted(
    each.name
    for each in (resources.files("convscope.explorer") / "static" / "styles").iterdir()
    if each.name.endswith(".css")
)


@pytest.mark.parametrize("name", SHEETS)
def test_every_rule_stands_by_itself_or_in_one_condition(name: str) -> None:
    text = (resources.files("convscope.explorer") / "static" / "styles" / name).read_text(encoding="utf-8")
    inside: list[str] = []
    begun = ""
    for mark in text:
        if mark == "{":
            inside.append(begun.split("*/")[-1].strip())
            assert all(each.startswith("@") for each in inside[:-1]), inside
            assert len(inside) <= 2, inside
        elif mark == "}":
            assert inside, begun
            inside.pop()
        begun = "" if mark in "{};" else begun + mark
    assert not inside
