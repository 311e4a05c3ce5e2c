"""A hook of the site's builder: the ready lessons, as pages and as files, beside docs/lessons.md."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from convscope.explorer.lessons import READY, build_lessons, ready_lesson


def on_files(files: Files, config: Any) -> Files:
    """Add lessons/NAME.html and lessons/NAME.toml."""
    with tempfile.TemporaryDirectory() as folder:
        for name, page in zip(READY, build_lessons(READY, folder), strict=True):
            files.append(File.generated(config, f"lessons/{name}.html", content=page.read_text("utf-8")))
            source = Path(ready_lesson(name)).read_text("utf-8")
            files.append(File.generated(config, f"lessons/{name}.toml", content=source))
    return files
