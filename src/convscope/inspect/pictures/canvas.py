"""Colours, pixel-exact sheets, and writing a picture so that a half-written one is never seen.

One zero-centred diverging map for each kind of number, white at zero in all of them, with symmetric limits that a few
outliers do not move; the limits are printed on every picture. The hues are those of the explorer: positive is blue
(activations), teal (weights), purple (δ), pink (gradients); negative is red, brown, orange, green. Maps are enlarged by
whole factors only, so that a pixel of a sheet is exactly one number.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import IO, Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from convscope.errors import ArgumentError
from convscope.inspect.files import write_whole

Kind = Literal["activations", "weights", "delta", "gradients"]
Pixels = npt.NDArray[np.uint8]  # (height, width, 3)
Numbers = npt.NDArray[np.float64]

COLOUR_MAPS: dict[Kind, str] = {"activations": "RdBu", "weights": "BrBG", "delta": "PuOr", "gradients": "PiYG_r"}
INK, FAINT, PAPER = "#1f2430", "#6b7280", "#ffffff"
SERIES = ("#1f5fa8", "#c8553d", "#3a8f5c", "#8a5aa8", "#b8860b", "#4a4a4a")
_DPI = 100
_ROBUST = 99.5  # percentile of |value| at the end of the colours


def numbers(values: torch.Tensor | npt.ArrayLike) -> Numbers:
    """Any tensor or array as float64 on the CPU."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def symmetric_limit(values: torch.Tensor | npt.ArrayLike) -> float:
    """The 99.5th percentile of |value| over the finite numbers; 1 where all are zero or none is finite."""
    size = np.abs(numbers(values))
    size = size[np.isfinite(size)]
    if not size.size:
        return 1.0
    limit = float(np.percentile(size, _ROBUST))
    return limit or float(size.max()) or 1.0


def colourise(values: torch.Tensor | npt.ArrayLike, kind: Kind, limit: float) -> Pixels:
    """(…) numbers → (…, 3) colours: white at 0, full colour from ±limit on, mid-grey for what is not a number."""
    scaled = (numbers(values) / limit + 1) / 2
    missing = ~np.isfinite(scaled)
    colours = matplotlib.colormaps[COLOUR_MAPS[kind]](np.where(missing, 0.5, scaled).clip(0, 1), bytes=True)[..., :3]
    colours = np.array(colours, dtype=np.uint8)
    colours[scaled == 0.5] = 255  # the middle of these maps is 0xf7 or 0xf8; exactly zero is the paper itself
    colours[missing] = 128
    return colours


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """(…, h, w, 3) → (…, h·factor, w·factor, 3), each pixel a square."""
    return np.repeat(np.repeat(pixels, factor, axis=-3), factor, axis=-2)


@dataclasses.dataclass
class Sheet:
    """A picture laid out in pixels from the top left corner."""

    width: int
    height: int
    _images: list[tuple[int, int, Pixels]] = dataclasses.field(default_factory=list)
    _texts: list[tuple[float, float, str, dict[str, Any]]] = dataclasses.field(default_factory=list)

    def image(self, left: int, top: int, pixels: Pixels) -> None:
        self._images.append((left, top, pixels))

    def text(self, left: float, top: float, text: str, size: float = 9, colour: str = INK, **options: Any) -> None:
        """Text whose top left corner (unless ``ha``, ``va`` say otherwise) is at the given pixel."""
        self._texts.append((left, top, text, {"size": size, "color": colour, "ha": "left", "va": "top", **options}))

    def colour_bar(self, left: int, top: int, kind: Kind, limit: float, label: str) -> None:
        """A bar 160 × 10 pixels with its two limits and zero written below."""
        ramp = colourise(np.linspace(-limit, limit, 160)[None, :].repeat(10, axis=0), kind, limit)
        ramp[[0, -1]] = 200
        ramp[:, [0, -1]] = 200
        self.image(left, top, ramp)
        for share, value, side in ((0.0, -limit, "left"), (80.0, 0.0, "center"), (160.0, limit, "right")):
            text = f"{value:.3g}".replace("-", "−")
            self.text(left + share, top + 13, text, 7.5, FAINT, ha=side)
        self.text(left + 170, top - 2, label, 8, FAINT)

    def figure(self) -> Figure:
        drawn = new_figure(self.width / _DPI, self.height / _DPI, layout=None)
        for left, top, pixels in self._images:
            drawn.figimage(np.ascontiguousarray(pixels), left, self.height - top - pixels.shape[0], origin="upper")
        for x, y, text, options in self._texts:
            drawn.text(x / self.width, 1 - y / self.height, text, **options)
        return drawn


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A light figure of the given size in inches, without pyplot's global state."""
    drawn = Figure(figsize=(width, height), dpi=_DPI, facecolor=PAPER, layout=layout)
    FigureCanvasAgg(drawn)
    return drawn


def plain_axes(axes: Any) -> Any:
    """Axes with a light grid and without a box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa0aa")
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.grid(True, color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


def save_picture(figure: Figure, path: str | Path) -> Path:
    """Write PNG or SVG (by the suffix) under a temporary name, then rename. Returns the path.

    Raises ArgumentError for another suffix and DataError where the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise ArgumentError("path", str(path), "a file name ending in .png or .svg")
    kind = path.suffix.lower()[1:]
    metadata = {"Date": None} if kind == "svg" else {"Software": None}

    def fill(file: IO[bytes]) -> None:
        with matplotlib.rc_context({"svg.hashsalt": "convscope", "svg.fonttype": "path"}):
            figure.savefig(file, format=kind, facecolor=PAPER, metadata=metadata)

    return write_whole(path, fill)
