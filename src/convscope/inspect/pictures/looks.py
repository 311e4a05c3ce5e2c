"""What a spatial transformer looks at: the picture with the part that is cut out, and what is passed on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.inspect.pictures.canvas import FAINT, SERIES, new_figure
from convscope.layers import SpatialTransformer


def looks_of(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(θ, y) of the model's first spatial transformer for a batch x: where it looks (n, 2, 3), and what it passes on.

    The model runs in evaluation mode and is left in the one it had. ArgumentError for one without.
    """
    found = next((each for each in model.modules() if isinstance(each, SpatialTransformer)), None)
    if found is None:
        raise ArgumentError("model", type(model).__name__, "a model with a SpatialTransformer")
    seen: dict[str, Tensor] = {}
    training = model.training
    model.eval()
    try:
        with _noting(found.theta, "theta", seen), _noting(found, "passed", seen), torch.no_grad():
            model(x)
    finally:
        model.train(training)
    return seen["theta"].reshape(-1, 2, 3), seen["passed"]


@contextlib.contextmanager
def _noting(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.setdefault(name, output.detach())

    handle = module.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


def looks_figure(pictures: Tensor, rows: list[tuple[str, Tensor, Tensor]], title: str) -> Figure:
    """``pictures`` uint8 (n, 1 or 3, h, w) once a row with the part outlined, and below what is passed on.

    A row is its name, θ (n, 2, 3) and what is passed on (n, c, h, w), any numbers, of which the first one or three maps
    are shown in shades from the least to the largest.
    """
    count = len(pictures)
    drawn = new_figure(0.9 * count + 0.9, 1.9 * len(rows) + 0.5, layout=None)
    drawn.suptitle(title, x=0.02, y=0.98, ha="left", fontsize=11)
    axes = drawn.subplots(2 * len(rows), count, squeeze=False)
    for row, (name, theta, passed) in enumerate(rows):
        for place in range(count):
            above, below = axes[2 * row, place], axes[2 * row + 1, place]
            _show(above, pictures[place].float() / 255)
            _outline(above, theta[place], (pictures.shape[2], pictures.shape[3]))
            _show(below, _shades(passed[place]))
        axes[2 * row, 0].set_ylabel(f"{name}:\nlooks at", fontsize=8, color=FAINT)
        axes[2 * row + 1, 0].set_ylabel("passes on", fontsize=8, color=FAINT)
    drawn.subplots_adjust(
        left=0.9 / (0.9 * count + 0.9), right=0.99, top=1 - 0.4 / (1.9 * len(rows) + 0.5), bottom=0.01
    )
    return drawn


def _show(axes: Any, values: Tensor) -> None:
    shown = values.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).cpu().numpy()
    axes.imshow(np.ascontiguousarray(shown), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _shades(values: Tensor) -> Tensor:
    kept = values[:3] if len(values) >= 3 else values[:1]
    low, high = kept.min(), kept.max()
    return (kept - low) / (high - low).clamp(min=1e-12)


def _outline(axes: Any, theta: Tensor, size: tuple[int, int]) -> None:
    """The edges of what is passed on, ±1, where θ puts them in the picture; the upper one thicker."""
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]]).to(theta)
    places = (corners @ theta.T + 1).cpu() * torch.tensor([size[1] / 2, size[0] / 2]) - 0.5  # pixels, across and down
    x, y = places.unbind(1)
    axes.plot(x, y, color=SERIES[1], linewidth=1, clip_on=True)
    axes.plot(x[:2], y[:2], color=SERIES[1], linewidth=2.5, clip_on=True)
    axes.set_xlim(-0.5, size[1] - 0.5)
    axes.set_ylim(size[0] - 0.5, -0.5)
