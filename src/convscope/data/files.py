"""Finding, reading and writing data files, with errors that say what to put where."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from convscope.errors import ArgumentError, DataError

UNPACKED_LIMIT = 4 * 2**30  # bytes that one file may be unpacked to; MNIST's pictures are 47 million


class MissingFileError(DataError):
    """A file or folder that a data set needs is not there (it may be had by downloading)."""


def find_file(folder: Path, spellings: Sequence[str]) -> Path:
    """The first of ``spellings`` that is a file in ``folder``; MissingFileError naming file and folder if none is."""
    for name in spellings:
        if (folder / name).is_file():
            return folder / name
    others = f" (or {', '.join(spellings[1:])})" if len(spellings) > 1 else ""
    raise MissingFileError(folder, f"file missing: {spellings[0]}{others}", f"Put it into the folder {folder}")


def read_bytes(path: Path) -> bytes:
    """The whole file; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error


def read_lines(path: Path, encoding: str = "utf-8", limit: int = UNPACKED_LIMIT) -> list[str]:
    """The lines of a text file, plain or gzipped, without their ends; only a line feed (perhaps after a carriage
    return) ends one. DataError where it cannot be read, is not of this encoding (the line is named), or unpacks to more
    than ``limit`` bytes."""
    content = read_bytes(path)
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(limit + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(path, f"damaged or cut short gzip file ({error})", "Fetch the file again") from error
        if len(content) > limit:
            raise DataError(path, f"unpacks to more than the limit of {limit:,} bytes")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(path, f"line {line} is not {encoding}", "Give encoding=, or save it as UTF-8") from error
    return lines_of(text.removeprefix("\ufeff"))


def lines_of(text: str) -> list[str]:
    """The lines of a text without their ends, as ``read_lines`` has them."""
    lines = text.split("\n")
    if lines[-1] == "":
        del lines[-1]
    return [line.removesuffix("\r") for line in lines]


def read_names(path: Path) -> tuple[str, ...]:
    """Class names, one a line; DataError for a file that is not text or has none."""
    try:
        names = tuple(line.strip() for line in read_bytes(path).decode("utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(path, "not a text file of class names, one a line") from error
    if not names:
        raise DataError(path, "holds no class names")
    return names


def readable(name: str) -> str:
    """A file's name as text: a byte that is no UTF-8 (an old archive's name, unpacked as it was) becomes ``\\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def make_folder(folder: Path) -> None:
    """``mkdir -p``; OSError also where the folder to write into is marked read-only, whoever runs this."""
    ancestor = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    if not ancestor.stat().st_mode & 0o222:
        raise OSError(errno.EROFS, f"read-only folder {ancestor}")
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Arguments that do not fit become a DataError of the file that they came from."""
    try:
        yield
    except ArgumentError as error:
        raise DataError(path, str(error)) from error
