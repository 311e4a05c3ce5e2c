"""Data sets by name or by path."""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import Any

from convscope.data.catalog import LAYOUTS, SOURCES, Layout
from convscope.data.dataset import Dataset
from convscope.data.download import Progress, obtain
from convscope.data.files import MissingFileError
from convscope.data.progress import terminal_progress
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


def is_present(name: str, root: str | Path | None = None) -> bool:
    """Whether the files of the data set ``name`` seem to be there already."""
    return SOURCES[name].present(data_root(root) / name)


def load_dataset(
    name_or_path: str | Path,
    root: str | Path | None = None,
    *,
    layout: str | None = None,
    download: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Dataset[Any]:
    """A data set by its name (its files in ``<root>/<name>/``), or from a path.

    A path is a file or a folder in one of the known layouts (``convscope.data.catalog.LAYOUTS``); ``layout`` names it
    where that is not to be seen. Missing files of a named set are downloaded where that is possible; ``download=False``
    or CONVSCOPE_OFFLINE=1 forbids it. ``progress(file, done, total)`` is called with bytes, total None where unknown;
    left out, a terminal shows bars.
    ``options`` go to the loader.

    Raises UnknownNameError (close matches offered), DataError for missing or damaged files (it names file and folder),
    ArgumentError for an option that the loader does not have or a value that cannot be.
    """
    text = os.fspath(name_or_path)
    if text in SOURCES:
        source, folder = SOURCES[text], data_root(root) / text
        if layout is not None:
            raise ArgumentError("layout", layout, f"none: {text} is known by name and has its own")
        _check_options(text, source.option_names(), options)
        try:
            return source.load(folder, **options)
        except MissingFileError:
            if not any(remote.unpack or remote.urls for remote in source.remotes):
                raise
        with terminal_progress() if progress is None else contextlib.nullcontext(progress) as shown:
            obtain(text, source.remotes, folder, download=download, progress=shown)
        return source.load(folder, **options)
    path = Path(text).expanduser()
    below = data_root(root) / text
    if not os.path.exists(path) and os.path.isdir(below):  # noqa: PTH110, PTH112 - pathlib raises for what is no name
        path = below
    return _load_path(path, text, layout, options)


def _load_path(path: Path, text: str, layout: str | None, options: dict[str, Any]) -> Dataset[Any]:
    if not os.path.exists(path):  # noqa: PTH110
        if os.sep in text or "." in text:
            raise DataError(path, "no such file or folder", f"Data sets known by name: {', '.join(list_datasets())}")
        raise UnknownNameError("data", text, list_datasets())
    chosen = LAYOUTS[layout] if layout is not None else _recognised(path)
    _check_options(text, chosen.option_names(), options)
    return chosen.load(path, **options)


def _recognised(path: Path) -> Layout:
    """The one layout that ``path`` has."""
    known = [LAYOUTS[name] for name in LAYOUTS]
    found = [each for each in known if not each.last and each.recognises(path)]
    found = found or [each for each in known if each.last and each.recognises(path)]
    if not found:
        raise DataError(path, "not a data set", f"One is {'; or '.join(each.looks for each in known)}")
    if len(found) > 1:
        names = [each.name for each in found]
        raise DataError(path, f"laid out as {' and as '.join(names)}", f"Choose one: layout={names[0]!r}")
    return found[0]


def _check_options(name: str, known: list[str], options: dict[str, Any]) -> None:
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            raise ArgumentError(
                option, options[option], f"an option of {name}: {', '.join(known) or 'it has none'}",
                f"Did you mean {close[0]!r}?" if close else "",
            )  # fmt: skip
