"""A sentence as a picture, and the table of which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_INCHES_A_LETTER = 0.085
_WIDTH = 9.0  # inches


def draw_words(path: Path, title: str, words: Sequence[str], shares: Sequence[float]) -> None:
    """``words`` in lines, shaded red where they speak for the answer and blue where they speak against it, the
    strongest fully."""
    from matplotlib.figure import Figure

    from convscope.inspect.pictures import save_picture

    strongest = max(map(abs, shares), default=0.0) or 1.0
    lines: list[list[tuple[float, str, float]]] = [[]]
    x = 0.15
    for word, share in zip(words, shares, strict=True):
        width = _INCHES_A_LETTER * (len(word) + 1.5)
        if x + width > _WIDTH and lines[-1]:
            lines.append([])
            x = 0.15
        lines[-1].append((x, word, share / strongest))
        x += width
    height = 0.6 + 0.35 * len(lines)
    figure = Figure(figsize=(_WIDTH, height))
    figure.text(0.15 / _WIDTH, 1 - 0.3 / height, title, fontsize=10, weight="bold")
    for number, line in enumerate(lines):
        for place, word, share in line:
            colour = (1, 1 - share, 1 - share) if share > 0 else (1 + share, 1 + share, 1)
            figure.text(
                place / _WIDTH, 1 - (0.7 + 0.35 * number) / height, word, fontsize=10, family="monospace",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 2.0},
                color="white" if abs(share) > 0.8 else "black",
            )  # fmt: skip
    save_picture(figure, path)
