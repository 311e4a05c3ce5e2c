"""An attribution beside its picture, with the checks of how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import (
    FAINT,
    INK,
    SERIES,
    Numbers,
    colourise,
    new_figure,
    numbers,
    plain_axes,
    symmetric_limit,
)

if TYPE_CHECKING:
    from convscope.inspect.attribution.checks import Honesty


def attribution_figure(picture: torch.Tensor, found: torch.Tensor, title: str, checks: Honesty | None = None) -> Figure:
    """``picture`` (c, h, w) uint8 as the model takes it, the map ``found`` (c, h, w) or (1, h, w) summed over its
    channels (blue speaks for, red against), one laid over the other; below, deletion and insertion and what random
    weights leave of the map."""
    seen = numbers(found).sum(0)  # (h, w)
    limit = symmetric_limit(seen)
    drawn = new_figure(10.5, 3.9 if checks is None else 7.2)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes = drawn.subplots(1 if checks is None else 2, 3, squeeze=False)
    grey = numbers(picture).mean(0) / 255
    panels = (
        ("the picture", _shown(picture)),
        (f"the map, ±{limit:.2g}", colourise(seen, "activations", limit)),
        ("laid over it", _laid_over(grey, seen, limit)),
    )
    for each, (caption, pixels) in zip(axes[0], panels, strict=True):
        each.imshow(pixels, interpolation="nearest", cmap="gray", vmin=0, vmax=255)
        each.set_title(caption, loc="left", fontsize=9, color=FAINT)
        each.set_axis_off()
    if checks is not None:
        _curves(axes[1][0], axes[1][1], checks)
        _agreement(axes[1][2], checks)
    return drawn


def _shown(picture: torch.Tensor) -> Numbers | np.ndarray[Any, Any]:
    array = picture.cpu().numpy()
    return array.transpose(1, 2, 0) if len(array) == 3 else array.mean(0)


def _laid_over(grey: Numbers, seen: Numbers, limit: float) -> Any:
    """The grey picture, coloured as strongly as the map says."""
    strength = np.clip(np.abs(seen) / limit, 0, 1)[..., None] if limit else np.zeros((*seen.shape, 1))
    colours = colourise(seen, "activations", limit).astype(float)
    pale = 255 * (0.35 + 0.65 * grey)[..., None]
    return np.round(strength * colours + (1 - strength) * pale).astype(np.uint8)


def _curves(left: Any, right: Any, checks: Honesty) -> None:
    for axes, curve, name, chance in (
        (left, checks.deletion, "deletion: the most marked pixels go first", checks.by_chance[0]),
        (right, checks.insertion, "insertion: … come first", checks.by_chance[1]),
    ):
        plain_axes(axes)
        axes.plot(np.array(curve.shares) * 100, curve.scores, color=SERIES[0], linewidth=1.8)
        axes.fill_between(np.array(curve.shares) * 100, curve.scores, color=SERIES[0], alpha=0.12)
        axes.set_title(
            f"{name}\narea {curve.area:.3f} · in random order {chance:.3f}", loc="left", fontsize=9, color=FAINT
        )
        axes.set_xlabel("% of the pixels", fontsize=8, color=FAINT)


def _agreement(axes: Any, checks: Honesty) -> None:
    plain_axes(axes)
    values = [each.agreement for each in checks.randomised]
    shown = range(len(values))
    axes.bar(shown, values, color=SERIES[1], width=0.7)
    axes.set_ylim(min(0.0, *values) - 0.05 if values else 0, 1)
    step = max(1, -(-len(values) // 12))
    names = [each.layer for each in checks.randomised]
    axes.set_xticks(list(shown)[::step], names[::step], rotation=90, fontsize=7)
    gap = "" if checks.gap is None else f" · completeness gap {checks.gap:+.1%}"
    axes.set_title(f"agreement with random weights from here on{gap}", loc="left", fontsize=9, color=FAINT)
