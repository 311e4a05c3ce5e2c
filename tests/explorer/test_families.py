"""Facts about kinds of layers: one table that its readers in Python, on the page and in the documentation share."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from torch import nn

from convscope.explorer.arithmetic import FAMILIES, Family
from convscope.explorer.arithmetic.backward import READERS
from convscope.explorer.arithmetic.forward import FORWARD
from convscope.explorer.arithmetic.layer import _FUNCTIONS, _MODULES, _RULES
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session

DOCUMENTED = Path(__file__).parents[2] / "docs/explorer.md"
MAPS = {"all": "all maps", "same": "the same map", "concat": "the map that was joined", "reshape": "the same numbers"}


def words(lang: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        (resources.files("convscope.explorer") / "static/locales" / f"{lang}.json").read_text("utf-8")
    )
    return found


def row(name: str, family: Family) -> str:
    """A family's line of the documentation."""
    reads = "a window" if family.window else "its own place" if family.place else "as its formula says"
    more = {
        f"the {family.picks} passes on": family.picks, "drawn as a sum": family.sum,
        "∂u/∂y is a weight": family.weights, "its own f′(u)": family.slope,
    }  # fmt: skip
    names = f"{words('en')[f'family_{name}']} · {words('zh')[f'family_{name}']}"
    return f"| {names} | {MAPS[family.maps]} | {reads} | {', '.join(text for text, holds in more.items() if holds)} |"


def test_every_family_that_a_call_may_have_is_in_the_table() -> None:
    known = {name for _, name in _MODULES} | set(_FUNCTIONS.values()) | set(_RULES.values())
    assert known | {"activation", "total", "total_across", "other"} == set(FAMILIES)
    assert set(FORWARD) | set(READERS) <= set(FAMILIES)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_family_has_a_name(lang: str) -> None:
    named = {key.removeprefix("family_") for key in words(lang) if key.startswith("family_")}
    assert named == set(FAMILIES)


def test_the_page_gets_the_table() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    session = Session(model, input_shape=(1, 8, 8))
    families = session.answer("hello", Arguments({}), b"").values["families"]
    assert families["max_pool"]["picks"] == "largest"
    assert families["conv"] == vars(FAMILIES["conv"])
    assert set(families) == set(FAMILIES)


def test_what_the_table_says_holds_for_the_arithmetic() -> None:
    """What is written as a sum of weights times inputs has its weight as derivative; what picks passes on one."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)).eval()
    snapshot = Session(model, input_shape=(1, 8, 8)).snapshot
    for name, unit in (("0", (1, 2, 2)), ("1", (1, 1, 1)), ("4", (2,))):
        family = FAMILIES[snapshot.layer(name).family]
        terms = snapshot.forward(name, unit).terms
        assert terms.coefficient is not None
        picked = int((terms.coefficient != 0).sum())
        assert (picked == 1) == bool(family.picks)
        assert (len(terms.coefficient) == snapshot.layer(name).inputs[0].numel()) == (not family.window)


def test_the_documentation_has_the_table() -> None:
    lines = DOCUMENTED.read_text("utf-8").splitlines()
    wanted = [row(name, family) for name, family in FAMILIES.items()]
    first = lines.index(wanted[0])
    assert lines[first : first + len(wanted)] == wanted
