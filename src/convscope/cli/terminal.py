"""Standard output and standard error as they are found: closed, of another encoding, or with nobody reading."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO

UNREAD = 141  # what a shell reports of a program that SIGPIPE (13) ended: 128 + 13

_READER_GONE = (errno.EPIPE, errno.EIO)  # a pipe; a terminal that was closed
_ERRORS = "convscope"  # our way with characters that an encoding lacks, as codecs know it


class Unread(SystemExit):
    """Nobody reads standard output any more: the program ends without a word."""

    def __init__(self) -> None:
        super().__init__(UNREAD)


class Output(io.TextIOWrapper):
    """Standard output. A reader who has gone away ends the program by ``Unread``, which no library takes for a failed
    write of its own (rich and click would exit with 1); any other trouble, such as a full disk, names what failed."""

    def write(self, text: str, /) -> int:
        if text == "":  # click asks so whether text or bytes are taken, and would swallow what is raised here
            return 0
        with self._watched():
            return super().write(text)

    def flush(self) -> None:
        with self._watched():
            super().flush()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            self._abandon()
            if problem.errno in _READER_GONE:
                raise Unread from None
            raise OSError(problem.errno, problem.strerror, "standard output") from problem

    def _abandon(self) -> None:
        """What is still buffered goes nowhere, so that it does not fail again when Python closes the file."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


class Errors(io.TextIOWrapper):
    """Standard error. Where it cannot be written there is nobody to tell, and the program goes on."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare() -> None:
    """Make all three standard streams usable, whatever the program was started with."""
    _open_closed_descriptors()
    codecs.register_error(_ERRORS, replace_characters)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    # Python goes back to the names with underscores, and flushes those, when it ends.
    sys.stdout = sys.__stdout__ = _wrapped(sys.stdout, 1, Output)  # type: ignore[misc,assignment]
    sys.stderr = sys.__stderr__ = _wrapped(sys.stderr, 2, Errors)  # type: ignore[misc,assignment]


def finish() -> None:
    """Write what is still buffered; where that cannot be done it is dropped, as there is nobody left to tell."""
    with contextlib.suppress(OSError, ValueError, Unread):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()


def json_text(content: object) -> str:
    """JSON for standard output: characters as they are where its encoding has them all, else ``\\u`` escapes, so that
    nothing is replaced."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(content)
    return text


def replace_characters(problem: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler for encoding: a byte of a file name that was no text as ``\\xe9``, any other character by the
    ASCII ones that it is made of (² → 2, é → e), else "?"."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    told = "".join(_plain(character) for character in problem.object[problem.start : problem.end])
    return told, problem.end


#: What our own texts and tables use beyond ASCII and Unicode does not take apart.
_OURS = {
    "–": "-", "−": "-", "─": "-", "×": "x", "·": ".", "→": "->", "≤": "<=", "≥": ">=", "≈": "~", "∂": "d",
    "‖": "||", "λ": "lambda", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip


def _plain(character: str) -> str:
    import unicodedata

    if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python carries a byte that was not UTF-8 (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    kind, _, letter = unicodedata.name(character, "").rpartition(" LETTER ")
    if kind in ("GREEK SMALL", "GREEK CAPITAL") and character not in _OURS:
        return letter.lower() if kind.endswith("SMALL") else letter.title()
    found = _OURS.get(character) or unicodedata.normalize("NFKD", character)
    return "".join(part for part in found if part.isascii()) or "?"


def _open_closed_descriptors() -> None:
    """Open what is closed of 0, 1 and 2 on nothing: the next file opened would get its number, and whatever a library
    prints would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # the lowest free number is this one


def _wrapped(stream: TextIO | None, number: int, kind: type[Output | Errors]) -> TextIO:
    if stream is None:  # closed when Python began
        return kind(open(number, "wb", closefd=False), encoding="utf-8", errors=_ERRORS)
    if not isinstance(stream, io.TextIOWrapper):  # a program that runs us has put something of its own there
        return stream
    encoding, line_buffering, write_through = stream.encoding, stream.line_buffering, stream.write_through
    return kind(
        stream.detach(), encoding=encoding, errors=_ERRORS, line_buffering=line_buffering, write_through=write_through
    )
