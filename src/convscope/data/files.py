"""Finding files that a data set needs, with an error that says what to put where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convscope.errors import DataError


def find_file(folder: Path, spellings: Sequence[str]) -> Path:
    """The first of ``spellings`` that is a file in ``folder``; DataError naming the file and the folder if none is."""
    for name in spellings:
        if (folder / name).is_file():
            return folder / name
    others = f" (or {', '.join(spellings[1:])})" if len(spellings) > 1 else ""
    raise DataError(folder, f"file missing: {spellings[0]}{others}", f"Put it into the folder {folder}")
