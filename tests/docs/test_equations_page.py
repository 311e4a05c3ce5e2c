"""The equations page is generated; it must be up to date and complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.pages import equations as document

PAGE = Path(__file__).parents[2] / "docs" / "equations.md"


def test_page_is_up_to_date() -> None:
    remedy = "run python -m docs.pages.equations docs/equations.md"
    assert PAGE.read_text(encoding="utf-8") == document.equations(), remedy


def test_every_rule_file_has_a_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of ``CHAPTERS``, and behind them by itself."""
    monkeypatch.setattr(document, "CHAPTERS", ("pool", "conv"))
    names = [module.__name__.rpartition(".")[2] for module in document.chapters()]
    assert names[:2] == ["pool", "conv"]
    assert names[2:] == sorted(names[2:])
    assert {"dense", "norm", "softmax"} <= set(names)
    assert not {"base", "tape", "windows"} & set(names)


def test_page_names_the_equations_and_what_is_saved() -> None:
    page = document.equations()
    for part in ("(27)", "(24)", "(28)", "### Subsample", "### rbf", "Saved: `x`, `weight`", "[½, ½, ½, ½]"):
        assert part in page


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document.main([str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == document.equations()
    document.main([])
    assert capsys.readouterr().out == document.equations()
