"""Histograms of activations and sensitivities, a row a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import FAINT, INK, SERIES, new_figure, plain_axes
from convscope.inspect.statistics import Histogram

_MOST_ROWS = 40


def histograms_figure(
    rows: Sequence[tuple[str, Histogram | None, Histogram | None, str]], title: str, pictures: int
) -> Figure:
    """``rows`` are (layer, activations, δ, note); the counts' axis is logarithmic, zero is marked.

    Of more than 40 layers, 40 evenly spread ones are drawn.
    """
    chosen = list(rows)
    if len(chosen) > _MOST_ROWS:
        places = np.linspace(0, len(chosen) - 1, _MOST_ROWS).round().astype(int)
        chosen = [chosen[index] for index in places]
        title += f" · {_MOST_ROWS} of {len(rows)} layers"
    height = 1.15 * len(chosen) + 1.0
    # Fixed margins: the constrained layout would measure every text twice, 0.5 of the 1.2 s that ten layers took.
    drawn = new_figure(9.6, height, layout=None)
    drawn.subplots_adjust(0.055, 0.5 / height, 0.985, 1 - 0.72 / height, wspace=0.13, hspace=0.75)
    drawn.suptitle(
        f"{title} · over {pictures} pictures",
        x=0.01,
        y=1 - 0.08 / height,
        ha="left",
        va="top",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )
    grid = drawn.subplots(len(chosen), 2, squeeze=False)
    for index, (name, activations, deltas, note) in enumerate(chosen):
        _bars(grid[index][0], activations, SERIES[0])
        _bars(grid[index][1], deltas, SERIES[3])
        grid[index][0].set_title(name + (f"   {note}" if note else ""), loc="left", fontsize=8.5, color=INK, pad=3)
    grid[0][0].annotate(
        "activations y", (1, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=8.5,
        color=SERIES[0],
    )  # fmt: skip
    grid[0][1].set_title("sensitivities δ = ∂J/∂u", loc="right", fontsize=8.5, color=SERIES[3], pad=3)
    return drawn


def _bars(axes: Any, histogram: Histogram | None, colour: str) -> None:
    plain_axes(axes)
    axes.tick_params(labelsize=7)
    if histogram is None or not histogram.counts.any():
        axes.set_axis_off()
        return
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    axes.stairs(histogram.counts, edges, fill=True, color=colour, alpha=0.85)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=":")
    axes.locator_params(axis="x", nbins=6)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
    axes.xaxis.get_offset_text().set(size=7, color=FAINT)
    axes.minorticks_off()
