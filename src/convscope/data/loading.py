"""Data sets by name or by path."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from convscope.data.catalog import SOURCES
from convscope.data.dataset import Dataset
from convscope.errors import ArgumentError, DataError, UnknownNameError


def list_datasets() -> list[str]:
    """Names that ``load_dataset`` knows, sorted."""
    return SOURCES.names()


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds a folder for each data set: the argument, else $CONVSCOPE_DATA, else ~/.cache/convscope."""
    if root is not None:
        return Path(root).expanduser()
    named = os.environ.get("CONVSCOPE_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "convscope"


def load_dataset(name_or_path: str | Path, root: str | Path | None = None, **options: Any) -> Dataset:
    """A data set by its name (its files in ``<root>/<name>/``), or from a path: a folder of pictures or an .npz file.

    ``options`` go to the loader. Raises UnknownNameError (close matches offered), DataError for missing or damaged
    files (it names file and folder), ArgumentError for an option that the loader does not have.
    """
    text = os.fspath(name_or_path)
    if text in SOURCES:
        source = SOURCES[text]
        _check_options(text, source.option_names(), options)
        return source.load(data_root(root) / text, **options)
    if os.sep in text or "." in text:
        raise DataError(text, "no such file or folder", f"Data sets known by name: {', '.join(list_datasets())}")
    raise UnknownNameError("data", text, list_datasets())


def _check_options(name: str, known: list[str], options: dict[str, Any]) -> None:
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            raise ArgumentError(
                option, options[option], f"an option of {name}: {', '.join(known) or 'it has none'}",
                f"Did you mean {close[0]!r}?" if close else "",
            )  # fmt: skip
