"""The API's pages: every public name has its place on one of them, and every place is a name that is there."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import convscope

PAGES = Path(__file__).parents[2] / "docs" / "api"
PLACE = re.compile(r"^#* ?::: (\S+)$", re.MULTILINE)
PLACES = [name for page in sorted(PAGES.glob("*.md")) for name in PLACE.findall(page.read_text(encoding="utf-8"))]
MODULES = ("convscope", "convscope.layers", "convscope.metrics", "convscope.ops", "convscope.sklearn")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_its_place(module: str) -> None:
    public = {name for name in import_module(module).__all__ if not name.startswith("__")}
    public = {name for name in public if f"{module}.{name}" not in MODULES}  # those have pages of their own names
    assert not public - {name.rpartition(".")[2] for name in PLACES if name.startswith(f"{module}.")}


def test_every_submodule_that_is_public_is_looked_at() -> None:
    here = {name for name in convscope.__all__ if inspect.ismodule(getattr(convscope, name))}
    assert {f"convscope.{name}" for name in here} <= {*MODULES, *PLACES}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_of_something_that_says_what_it_is(name: str) -> None:
    found = found_at(name)
    assert inspect.ismodule(found) or isinstance(found, tuple | dict | list) or inspect.getdoc(found), name


def test_no_name_has_two_places() -> None:
    assert sorted(PLACES) == sorted(set(PLACES))


def found_at(name: str) -> Any:
    module, _, last = name.rpartition(".")
    try:
        return getattr(import_module(module), last)
    except (ImportError, AttributeError):
        return import_module(name)
