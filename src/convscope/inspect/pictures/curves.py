"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from convscope.inspect.pictures.canvas import FAINT, INK, SERIES, new_figure, plain_axes


def curves_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], epochs: Sequence[float], title: str) -> Figure:
    """One panel a quantity, one line a series; the last value written beside each line.

    ``panels`` maps a panel's name ("loss", "error in %") to series by name; every series has one value an epoch, NaN
    where it was not measured. Panels whose values span more than a factor of 20 get a logarithmic axis.
    """
    drawn = new_figure(5.2 * len(panels), 3.9)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    for position, (name, series) in enumerate(panels.items()):
        axes = plain_axes(drawn.add_subplot(1, len(panels), position + 1))
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=FAINT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        everything: list[float] = []
        arrays = {label: np.asarray(values, dtype=float) for label, values in series.items()}
        last = {name: y[np.isfinite(y)][-1] for name, y in arrays.items() if np.isfinite(y).any()}
        order = sorted(last, key=last.__getitem__)
        known_values = np.concatenate([y[np.isfinite(y)] for y in arrays.values()] or [np.zeros(1)])
        span = float(np.ptp(known_values)) if len(known_values) else 0.0
        for index, label in enumerate(series):
            y = arrays[label]
            known = np.isfinite(y)
            if not known.any():
                continue
            x = np.asarray(epochs, dtype=float)[known]
            colour = SERIES[index % len(SERIES)]
            marker = "o" if known.sum() <= 25 else None
            axes.plot(x, y[known], color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label)
            close = [name for name in order if abs(last[name] - last[label]) <= 0.05 * span]
            above = close.index(label) - (len(close) - 1) / 2  # so that figures of lines that meet do not overlap
            axes.annotate(
                f"{last[label]:.3g}", (x[-1], last[label]), xytext=(6, 9 * above), textcoords="offset points",
                fontsize=8, color=colour, va="center",
            )  # fmt: skip
            everything += y[known].tolist()
        positive = [value for value in everything if value > 0]
        if positive and len(positive) == len(everything) and max(positive) > 20 * min(positive):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if everything:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        axes.margins(x=0.08)
    return drawn


def learning_curves(history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Loss, and error in per cent, of training and test from one row an epoch with the keys ``epoch``, ``train_loss``,
    ``test_loss``, ``train_accuracy``, ``test_accuracy`` (those that are there)."""

    def column(key: str) -> list[float]:
        return [float("nan") if row.get(key) in (None, "") else float(row[key]) for row in history]

    epochs = [float(row.get("epoch", index + 1)) for index, row in enumerate(history)]
    losses = {"training": column("train_loss"), "test": column("test_loss")}
    errors = {
        name: [100 * (1 - value) for value in column(key)]
        for name, key in (("training", "train_accuracy"), ("test", "test_accuracy"))
    }
    return curves_figure({"loss J": losses, "error in %": errors}, epochs, title)
