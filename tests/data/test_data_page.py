"""The page docs/data.md keeps up with the code."""

from __future__ import annotations

from pathlib import Path

from convscope.data import list_datasets
from convscope.data.augment import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_data_set_has_its_row() -> None:
    for name in list_datasets():
        assert f"| `{name}` |" in PAGE


def test_every_operation_has_its_row() -> None:
    for kind in KINDS.values():
        assert f"| `{kind.usage()}` |" in PAGE
