"""Habits of the whole tree that no other tool checks."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_only_one_module_imports_the_extension() -> None:
    importers = [
        path.relative_to(ROOT / "src").as_posix()
        for path in SOURCES
        if re.search(r"^\s*(from|import) .*\b_engine\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importers == ["convscope/native/availability.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src" / "convscope").as_posix())
def test_nothing_is_pickled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    forbidden = r"^\s*(import|from) (pickle(?! import UnpicklingError)|joblib|dill|cloudpickle|shelve|marshal)\b"
    assert not re.search(forbidden, text, re.MULTILINE)
    for call in re.findall(r"torch\.load\([^)]*\)", text):
        assert "weights_only=True" in call, call
    assert "allow_pickle=True" not in text  # numpy's own default refuses
    assert not re.search(r"^\s*torch\.save\(", text, re.MULTILINE)


def test_every_rule_lives_in_its_room() -> None:
    """The page of equations is written from ``rules/``: a rule elsewhere would be missing from it."""
    from convscope.rules.base import Rule, discover

    for path in SOURCES:
        if path.parent.name in ("layers", "inspect", "explorer"):
            importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    discover()
    found, pending = set(), [Rule]
    while pending:
        pending += (subclasses := pending.pop().__subclasses__())
        found |= {each.__module__.rpartition(".")[0] for each in subclasses if each.__module__.startswith("convscope")}
    assert found == {"convscope.rules"}


def test_public_names_are_there() -> None:
    import convscope

    for name in convscope.__all__:
        assert getattr(convscope, name) is not None
    with pytest.raises(AttributeError, match="module 'convscope' has no attribute 'trian'"):
        _ = convscope.trian
