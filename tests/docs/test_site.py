"""The site: it builds without a warning, every page is in its menu, and the first page's code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.training import Result

ROOT = Path(__file__).parents[2]


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    named = set(re.findall(r": ([\w/-]+\.md)$", menu, re.MULTILINE))
    assert named == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def test_pictures_are_small_and_each_is_shown() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    pictures = sorted((ROOT / "docs" / "pictures").rglob("*.png"))
    sizes = {str(path.relative_to(ROOT / "docs")): path.stat().st_size for path in pictures}
    assert {name: size for name, size in sizes.items() if size > 150_000} == {}
    assert sum(sizes.values()) < 2_500_000
    assert [name for name in sizes if name not in pages] == []


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "convscope train" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_the_first_page_s_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "index.md", "exec"), names)
    assert (tmp_path / "runs").is_dir()
    result = names["result"]
    assert isinstance(result, Result)
    assert result.metrics["accuracy"] > 0.5
