"""A line with where each of its characters was read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convscope.tasks.lines.predict import LinePrediction


def draw_line(path: Path, answer: LinePrediction) -> None:
    """The picture with the columns of each character above the probabilities at every step, blank first."""
    from matplotlib.figure import Figure

    from convscope.inspect.pictures import save_picture

    width = answer.picture.shape[2]
    figure = Figure(figsize=(max(width / 28, 4), 3.2))
    above, below = figure.subplots(2, 1, sharex=False)
    above.imshow(answer.picture[0].numpy(), cmap="gray", aspect="auto", extent=(0, width, answer.picture.shape[1], 0))
    for number, (character, (first, last)) in enumerate(zip(answer.text, answer.spans, strict=False)):
        colour = f"C{number % 10}"
        above.axvspan(first, last + 1, color=colour, alpha=0.35)
        above.text((first + last + 1) / 2, -1, character, color=colour, ha="center", va="bottom", fontsize=11)
    above.set_yticks([])
    shown = answer.probabilities.T if len(answer.alphabet) <= 40 else answer.probabilities.amax(1)[None]
    below.imshow(shown.numpy(), cmap="viridis", aspect="auto", vmin=0, vmax=1)
    if len(answer.alphabet) <= 40:
        below.set_yticks(range(len(answer.alphabet) + 1), ["blank", *answer.alphabet], fontsize=6)
    below.set_xlabel(f"step; read {answer.text!r}")
    save_picture(figure, path)
