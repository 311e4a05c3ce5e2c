"""How the maps of each layer follow a picture that moves, turns or grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import (
    FAINT,
    INK,
    SERIES,
    colourise,
    new_figure,
    numbers,
    plain_axes,
    symmetric_limit,
)

if TYPE_CHECKING:
    from convscope.inspect.equivariance import Equivariance

_KINDS = ("shift", "turn", "scale")


def equivariance_figure(found: Equivariance, title: str) -> Figure:
    """A column for each kind of change: above, how well each layer's maps follow (1: they change as the picture did);
    below, how much they stay as they were (1: the layer does not notice). A line for each amount; hollow marks where
    borders and padding count as well."""
    kinds = [kind for kind in _KINDS if any(change.kind == kind for change in found.changes)]
    names = found.layers
    drawn = new_figure(max(5.0, 1.2 + 0.28 * len(names)) * len(kinds), 7.6)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes = drawn.subplots(2, len(kinds), squeeze=False, sharey="row")
    for column, kind in enumerate(kinds):
        for number, change in enumerate(each for each in found.changes if each.kind == kind):
            rows = found.of(change)
            colour = SERIES[number % len(SERIES)]
            follows = [float("nan") if row.follows is None else row.follows for row in rows]
            whole = [row.whole for row in rows]
            label = str(change).removeprefix(f"{kind} ")
            _line(axes[0][column], follows, whole, colour, label)
            _line(axes[1][column], [row.stays for row in rows], [True] * len(rows), colour, label)
        for row, caption in enumerate((f"{kind}: the maps follow", f"{kind}: the maps stay as they were")):
            _label(axes[row][column], caption, [f"{name}{_jump(found.jumps[name])}" for name in names], row == 1)
    lowest = [row.follows for row in found if row.follows is not None], [row.stays for row in found]
    for row, values in enumerate(lowest):
        axes[row][0].set_ylim(min([0.0, *values]) - 0.05, 1.05)
    return drawn


def moved_figure(before: torch.Tensor, alike: torch.Tensor, after: torch.Tensor, title: str) -> Figure:
    """One map (h, w) three times: of the picture, changed as the picture was, and of the changed picture; and the
    difference of the last two."""
    limit = symmetric_limit(torch.stack([before, alike, after]))
    drawn = new_figure(11, 3.2)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    panels = (
        ("of the picture", before), ("changed alike", alike), ("of the changed picture", after),
        ("the difference", after - alike),
    )  # fmt: skip
    for axes, (caption, values) in zip(drawn.subplots(1, 4), panels, strict=True):
        axes.imshow(colourise(numbers(values), "activations", limit), interpolation="nearest")
        axes.set_title(f"{caption}\n±{limit:.2g}", loc="left", fontsize=9, color=FAINT)
        axes.set_axis_off()
    return drawn


def _line(axes: Any, values: list[float], whole: list[bool], colour: str, label: str) -> None:
    y = np.asarray(values, dtype=float)
    x = np.arange(len(y))
    axes.plot(x, y, color=colour, linewidth=1.5, label=label)
    sure = np.asarray(whole)
    axes.plot(x[sure], y[sure], "o", color=colour, markersize=4)
    axes.plot(x[~sure], y[~sure], "o", color=colour, markersize=4, markerfacecolor="white")


def _label(axes: Any, caption: str, names: list[str], last: bool) -> None:
    plain_axes(axes)
    axes.set_title(caption, loc="left", fontsize=10, color=INK)
    step = max(1, -(-len(names) // 40))
    axes.set_xticks(range(len(names))[::step], names[::step] if last else [], rotation=90, fontsize=7)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="center left")


def _jump(jump: tuple[float, ...] | None) -> str:
    return "" if jump is None else f" (step {jump[0]:g})"
