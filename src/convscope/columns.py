"""Tables in a terminal: columns by the cells that characters take there (猫 takes two), and nothing in a name that the
terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size


def shown(name: str) -> str:
    """``name`` as it may be printed: a control character (a class's name may hold a line feed, or an escape sequence
    that paints the screen) becomes its picture of the block U+2400."""
    return "".join(_visible(letter) for letter in name)


def width(text: str) -> int:
    """How many cells ``shown(text)`` takes in a terminal."""
    return cell_len(shown(text))


def padded(text: str, cells: int, right: bool = False) -> str:
    """``shown(text)`` with spaces behind it (before it: ``right``) up to ``cells`` cells; longer text stays whole."""
    space = " " * (cells - width(text))
    return space + shown(text) if right else shown(text) + space


def share(value: float | None) -> str:
    """``value`` in per cent; a dash where there was nothing to take a share of (nan, in a file None)."""
    return "–" if value is None or value != value else f"{value:.2%}"


def figure(name: str, value: float, shares: Sequence[str]) -> str:
    """A figure of a task as a line of progress tells it: in per cent where ``name`` is among ``shares``."""
    return share(value) if name in shares else f"{value:.4f}"


def cut(text: str, cells: int) -> str:
    """At most the first ``cells`` cells of ``shown(text)``."""
    text = shown(text)
    return text if cell_len(text) <= cells else set_cell_size(text, cells).rstrip()


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of equal width, the first ``left`` of them to the left, the others to the right."""
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            padded(cell, cells, right=column >= left)
            for column, (cell, cells) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def ruled(rows: Sequence[Sequence[str]], left: int) -> str:
    """``aligned`` with a rule below the first row and above the last."""
    lines = aligned(rows, left).splitlines()
    rule = "─" * max(map(cell_len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _visible(letter: str) -> str:
    code = ord(letter)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return "�" if 0x80 <= code < 0xA0 or letter in _UNSEEN else letter


#: What ends a line, or turns the direction of writing, without being a control character of ASCII.
_UNSEEN = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
