"""The confusion matrix: which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import FAINT, INK, PAPER, SERIES, new_figure, plain_axes

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
_NUMBERED = 20  # classes up to which every cell shows its number


def confusion_figure(matrix: npt.ArrayLike, classes: Sequence[str], title: str) -> Figure:
    """``matrix[i][j]`` pictures of class i were taken for class j. Colours are shares of a row; beside it the accuracy
    of every class."""
    counts = np.asarray(matrix, dtype=np.int64)
    number = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = 0.44 * number + 1.6 if number <= _NUMBERED else 8.5
    side = max(side, 4.2)
    drawn = new_figure(side + 3.2, side + 0.7)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes, bars = drawn.subplots(1, 2, width_ratios=(side, 2.4), sharey=True)
    _shades(axes, counts, shares)
    names = [name if len(name) <= 16 else name[:15] + "…" for name in classes]
    step = 1 if number <= 40 else -(-number // 40)
    ticks = list(range(0, number, step))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8)
    axes.set_yticks(ticks, [names[i] for i in ticks], fontsize=8)
    axes.set_xlabel("taken for", color=FAINT, fontsize=9)
    axes.set_ylabel("true class", color=FAINT, fontsize=9)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_color("#c9ced6")
    if number <= _NUMBERED:
        _numbers(axes, counts, shares)
    _bars(bars, 100 * shares.diagonal(), totals[:, 0])
    return drawn


def _shades(axes: Axes, counts: Counts, shares: Shares) -> None:
    """Right answers blue, mistakes orange, by their share of the class."""
    right = np.eye(len(counts), dtype=bool)
    mistakes = np.where(right | (counts == 0), np.nan, shares)
    correct = np.where(right, shares, np.nan)
    strongest = np.nanmax(mistakes) if np.isfinite(mistakes).any() else 1.0
    axes.imshow(correct, cmap=_light("Blues"), vmin=0, vmax=1.25, interpolation="nearest")
    axes.imshow(mistakes, cmap=_light("Oranges"), vmin=0, vmax=strongest * 1.4, interpolation="nearest")


def _numbers(axes: Axes, counts: Counts, shares: Shares) -> None:
    for i in range(len(counts)):
        for j in range(len(counts)):
            if counts[i, j]:
                weight = "bold" if i == j else "normal"
                ink = PAPER if i == j and shares[i, j] > 0.6 else INK
                cell = axes.text(
                    j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=7.5, color=ink, weight=weight
                )
                cell.set_in_layout(False)  # inside the axes anyway; measuring 100 of them took 0.1 s


def _bars(bars: Axes, accuracy: Shares, totals: Counts) -> None:
    """Accuracy of each class in percent."""
    number = len(accuracy)
    plain_axes(bars)
    bars.barh(range(number), accuracy, color=SERIES[0], height=0.62)
    low = max(0.0, float(np.floor(accuracy.min() / 10) * 10) - 10) if number else 0.0
    bars.set_xlim(low, 100 + (100 - low) * 0.28)
    bars.set_xticks([tick for tick in bars.get_xticks() if low <= tick <= 100])
    bars.set_title("accuracy in %", loc="left", fontsize=9, color=FAINT)
    bars.tick_params(axis="y", length=0, labelleft=False)
    if number <= 40:
        for i, value in enumerate(accuracy):
            text = f"{value:.1f}" if totals[i] else "none"
            bars.text(value, i, " " + text, va="center", fontsize=8, color=INK).set_in_layout(False)


def _light(name: str) -> matplotlib.colors.Colormap:
    """The map with nothing drawn where there is no number."""
    return matplotlib.colormaps[name].with_extremes(bad=(0, 0, 0, 0))
