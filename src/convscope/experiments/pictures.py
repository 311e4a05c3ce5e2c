"""The two pictures that experiments share: bars beside the published ones, and lines over iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullLocator

from convscope.inspect.pictures.canvas import FAINT, INK, SERIES, new_figure, plain_axes, save_picture


def grouped_bars(
    path: Path, groups: Sequence[str], series: Mapping[str, Sequence[float]], label: str, title: str
) -> Path:
    """One bar a series in every group, each with its value above it."""
    drawn = new_figure(max(6.0, 1.0 * len(groups)), 3.9)
    axes = plain_axes(drawn.add_subplot())
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_ylabel(label, fontsize=9, color=FAINT)
    positions = np.arange(len(groups))
    width = 0.8 / len(series)
    colours = ("#b4bac6", *SERIES) if len(series) > 1 else SERIES
    for index, (name, values) in enumerate(series.items()):
        offset = (index - (len(series) - 1) / 2) * width
        bars = axes.bar(positions + offset, values, width * 0.92, color=colours[index], label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, color=INK, padding=2)
    axes.set_xticks(positions, groups, fontsize=9)
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_picture(drawn, path)


def lines(
    path: Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    labels: tuple[str, str],
    title: str,
    level: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> Path:
    """(x, y) lines by name; ``level`` draws a dashed horizontal with its text, ``logarithmic`` is the axis of x, which
    then shows the x of the points."""
    drawn = new_figure(7.2, 4.2)
    axes = plain_axes(drawn.add_subplot())
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel(labels[0], fontsize=9, color=FAINT)
    axes.set_ylabel(labels[1], fontsize=9, color=FAINT)
    for index, (name, (x, y)) in enumerate(series.items()):
        marker = "o" if len(x) <= 25 else None
        axes.plot(x, y, color=SERIES[index % len(SERIES)], linewidth=1.8, marker=marker, markersize=3.5, label=name)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(sorted({each for x, _ in series.values() for each in x}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    if level is not None:
        axes.axhline(level[0], color=FAINT, linewidth=1, linestyle="--")
        axes.annotate(
            level[1], (0.99, level[0]), xycoords=("axes fraction", "data"), fontsize=8, color=FAINT, ha="right",
            va="bottom",
        )  # fmt: skip
    axes.legend(frameon=False, fontsize=9)
    return save_picture(drawn, path)
