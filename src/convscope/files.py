"""Files that are either whole or not there at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PART = ".part"  # how the name of an unfinished file ends


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write under; when the block ends well it is synced and renamed to ``path``.

    Whatever goes wrong, ``path`` holds what it held before and the temporary file is gone. OSError goes on up.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """``text`` as UTF-8 at ``path``, whole or not at all.

    The name of a file may hold bytes that are no UTF-8 (PEP 383); they become ``\\udc…``, which JSON reads as what was.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_line(path: Path, text: str) -> None:
    """``text`` and a line feed at the end of ``path``, as ``write_text`` writes it."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


def _sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
