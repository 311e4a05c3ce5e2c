"""How things show themselves in a notebook: an object that is ``Shown`` has an HTML form, which the room that can draw
it gives by ``html.register``; without one a notebook prints its text."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from html import escape
from typing import Any


@functools.singledispatch
def html(value: Any) -> str | None:
    """The HTML form; None for what has none."""
    return None


class Shown:
    """Gives its subclasses the method that notebooks look for."""

    def _repr_html_(self) -> str | None:
        return html(self)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first row as the heading; the first ``left`` columns stand to the left, the others to the right. Texts are
    escaped."""

    def line(row: Sequence[str], tag: str) -> str:
        sides = ("left" if place < left else "right" for place in range(len(row)))
        cells = zip(row, sides, strict=True)
        return (
            "<tr>"
            + "".join(f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>' for cell, side in cells)
            + "</tr>"
        )

    return f"<table>{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>"


def picture(png: bytes, text: str) -> str:
    """A PNG within the page; ``text`` is read where it cannot be seen."""
    content = base64.b64encode(png).decode()
    return f'<img alt="{escape(text)}" style="max-width:100%" src="data:image/png;base64,{content}">'
