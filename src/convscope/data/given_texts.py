"""Texts as a user hands them over: sentences, names of text files, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convscope.data.files import lines_of, read_lines
from convscope.errors import ArgumentError


def given_texts(inputs: Any, empty_lines: bool = True) -> Iterator[tuple[str, str]]:
    """(where it is from, text without spaces at its ends) of a text or several; where one is the name of a text file,
    of its lines; "-" reads standard input. Without ``empty_lines`` these are left out.

    Raises ArgumentError for what is no text, DataError for a file that cannot be read or is not UTF-8 (the line is
    named).
    """
    several = not isinstance(inputs, str | Path) and isinstance(inputs, Sequence)
    for place, item in enumerate(inputs if several else [inputs], 1):
        if isinstance(item, str) and item == "-":
            yield from _numbered("standard input", lines_of(sys.stdin.read()), empty_lines)
        elif isinstance(item, Path) or (isinstance(item, str) and _is_file(item)):
            yield from _numbered(Path(item).name, read_lines(Path(item)), empty_lines)
        elif isinstance(item, str):
            yield str(place), item.strip()
        else:
            raise ArgumentError(
                "inputs", type(item).__name__, "sentences, names of text files, or - for standard input"
            )


def _numbered(name: str, lines: Sequence[str], empty: bool) -> Iterator[tuple[str, str]]:
    stripped = (line.strip() for line in lines)
    return ((f"{name}:{number}", line) for number, line in enumerate(stripped, 1) if line or empty)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a name
        return False
