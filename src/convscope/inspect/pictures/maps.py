"""Feature maps, sensitivities δ and gradients of one example as pictures."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import (
    FAINT,
    INK,
    SERIES,
    Kind,
    Numbers,
    colourise,
    new_figure,
    numbers,
    plain_axes,
    symmetric_limit,
)
from convscope.inspect.pictures.kernels import KernelSheet
from convscope.inspect.pictures.tiles import maps_sheet, sheet_of_tiles

_WORDS: dict[Kind, str] = {
    "activations": "feature maps",
    "weights": "weights",
    "delta": "sensitivities δ = ∂J/∂u",
    "gradients": "gradient maps",
}


def maps_figure(name: str, values: torch.Tensor, kind: Kind, layer_kind: str = "") -> Figure:
    """One layer's values for one example, (maps, height, width) or (units,), on one sheet.

    Vectors are drawn as a grid of single cells, row by row.
    """
    maps = as_maps(values)
    count, height, width = maps.shape
    what = f"{count} maps of {height} × {width}" if height * width > 1 else f"{count} units"
    finite = maps[np.isfinite(maps)]
    spread = f" · from {finite.min():.3g} to {finite.max():.3g}".replace("-", "−") if finite.size else ""
    zeros = f" · {(finite == 0).mean():.0%} exactly 0" if finite.size and (finite == 0).mean() > 0.005 else ""
    subtitle = " · ".join(part for part in (layer_kind, what) if part) + spread + zeros
    return maps_sheet(maps, f"{name} · {_WORDS[kind]}", subtitle, kind, "limits: 99.5 % of |value|")


def as_maps(values: torch.Tensor) -> Numbers:
    """(c, h, w), (c, l), (c, d, h, w) or (n,) as (maps, height, width)."""
    array = numbers(values)
    if array.ndim <= 1:
        return array.reshape(-1, 1, 1)
    if array.ndim == 2:
        return array[:, None, :]
    return array.reshape(-1, *array.shape[-2:])


def kernel_gradient_figure(kernels: KernelSheet) -> Figure:
    """∂J/∂K of one layer, laid out as its kernels are (output maps, input maps, h, w)."""
    values = kernels.values
    out_maps, in_maps, height, width = values.shape
    rows = min(out_maps, max(1, 2000 // (height + 2)), 48)
    columns = min(in_maps, max(1, 2000 // (width + 2)), 48)
    part = values[:rows, :columns, :2000, :2000]
    limit = symmetric_limit(values)
    subtitle = kernels.described + (f" · the first {rows} × {columns}" if part.shape != values.shape else "")
    tiles = colourise(part.reshape(-1, part.shape[2], part.shape[3]), "gradients", limit)
    across = columns if in_maps > 1 else None
    labels = [str(row) for row in range(rows)] if across else None
    title = f"{kernels.name} · gradients ∂J/∂K"
    legend: tuple[Kind, float, str] = ("gradients", limit, "gradients")
    return sheet_of_tiles(tiles, title, subtitle, legend, columns=across, labels=labels)


def picture_figure(pixels: torch.Tensor, label: str) -> Figure:
    """A picture as the model gets it, uint8 (1 or 3, h, w), enlarged so that every pixel is a square."""
    colours = pixels.detach().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    subtitle = f"{label} · {pixels.shape[0]} channels of {pixels.shape[1]} × {pixels.shape[2]}"
    return sheet_of_tiles(np.ascontiguousarray(colours)[None], "the picture", subtitle, None, labels=[""])


def bars_figure(name: str, values: torch.Tensor, classes: tuple[str, ...], target: int | None = None) -> Figure:
    """The outputs of one example as bars, one a class; at most the twenty largest."""
    outputs = numbers(values).reshape(-1)
    order = np.argsort(-outputs, kind="stable")[:20]
    names = [classes[index] if index < len(classes) else str(index) for index in order]
    drawn = new_figure(6.4, 1.2 + 0.28 * len(order))
    axes = plain_axes(drawn.add_subplot())
    colours = [SERIES[1] if index == target else SERIES[0] for index in order]
    axes.barh(range(len(order)), outputs[order], color=colours, height=0.7)
    axes.set_yticks(range(len(order)), names, color=INK)
    axes.invert_yaxis()
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_title(
        f"{name} · outputs" + ("" if target is None else " (red: the class taken back)"), loc="left", fontsize=11
    )
    return drawn
