"""A contact sheet: every filter on one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from convscope import kernels
from convscope.tasks.filtering.pictures import filter_picture

_COLUMNS = 6
_SIDE = 420  # pixels of the longer side that are shown; filters work on what is shown
# Settings with which each shows what it does at that size.
_SHOWN: dict[str, dict[str, Any]] = {
    "box": {"size": 9}, "gaussian": {"sigma": 3.0}, "log": {"sigma": 1.4, "scale": 6.0}, "laplacian": {"scale": 2.0},
    "unsharp": {"sigma": 2.0, "amount": 1.5}, "motion": {"size": 25, "angle": 30.0}, "median": {"size": 9},
    "sobel_x": {"scale": 0.5}, "sobel_y": {"scale": 0.5}, "prewitt_x": {"scale": 0.5}, "prewitt_y": {"scale": 0.5},
}  # fmt: skip


def contact_sheet(pixels: NDArray[Any], path: Path) -> Path:
    """Draw the picture (h, w) or (h, w, channels) and what every filter makes of it; directions as colours, where the
    gradient is strong."""
    from convscope.inspect.pictures.canvas import INK, new_figure, save_picture

    step = max(max(pixels.shape[:2]) // _SIDE, 1)
    shown = numpy.ascontiguousarray(_colours(pixels)[::step, ::step])
    panels = [("picture", "", shown)]
    for name in kernels.NAMES:
        options = _SHOWN.get(name, {})
        said = ", ".join(f"{key} {value:g}" for key, value in options.items())
        filtered = _directions(shown, name) if name.endswith("_direction") else filter_picture(shown, name, **options)
        panels.append((name, said, filtered))
    rows = -(-len(panels) // _COLUMNS)
    height, width = shown.shape[:2]
    drawn = new_figure(2.3 * _COLUMNS, (2.3 * height / width + 0.45) * rows)
    for place, (name, said, picture) in enumerate(panels, 1):
        axes = drawn.add_subplot(rows, _COLUMNS, place)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{name}\n{said}" if said else name, fontsize=9, color=INK)
    return save_picture(drawn, path)


def _colours(pixels: NDArray[Any]) -> NDArray[Any]:
    """8 bits, opaque."""
    plain = pixels if pixels.dtype == numpy.uint8 else (pixels // 257).astype(numpy.uint8)
    if plain.ndim == 3 and plain.shape[2] in (2, 4):
        share = plain[:, :, -1:] / 255.0
        plain = numpy.rint(plain[:, :, :-1] * share + 255 * (1 - share)).astype(numpy.uint8)
    return plain[:, :, 0] if plain.ndim == 3 and plain.shape[2] == 1 else plain


def _directions(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Hue is the gradient's direction, brightness its length."""
    from matplotlib.colors import hsv_to_rgb

    grey = pixels.astype(numpy.float64) if pixels.ndim == 2 else pixels @ numpy.array([0.299, 0.587, 0.114])
    hue = filter_picture(grey, name) / (2 * numpy.pi) + 0.5
    length = numpy.clip(filter_picture(grey, name.removesuffix("_direction")) / 255, 0, 1)
    coloured = hsv_to_rgb(numpy.stack([hue % 1.0, numpy.ones_like(hue), length], axis=2))
    return numpy.asarray(numpy.rint(255 * coloured), dtype=numpy.uint8)
