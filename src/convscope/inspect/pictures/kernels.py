"""Kernels as pictures: every layer's weights, those that read colour in colour, and how they change over training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from convscope import layers
from convscope.graph.calls import Step, Walk
from convscope.inspect.pictures.canvas import Kind, Numbers, Pixels, colourise, numbers, symmetric_limit
from convscope.inspect.pictures.tiles import fitting, plan, sheet_of_tiles

_MOST_ROWS = 48  # output maps of one kernel matrix; more are cut to the strongest
_MOST_COLUMNS = 48


@dataclasses.dataclass(frozen=True)
class KernelSheet:
    """A layer's weights as (output maps, input maps, height, width); NaN where a connection table has no connection.

    ``colour`` says that the input maps are the red, green and blue of the picture.
    """

    name: str
    values: Numbers
    colour: bool

    @property
    def described(self) -> str:
        out_maps, in_maps, height, width = self.values.shape
        if out_maps == in_maps == 1 and max(height, width) > 16:
            return f"{height} outputs × {width} inputs"
        return f"{out_maps} × {in_maps} kernels of {height} × {width}"


def kernels_of(name: str, module: nn.Module, colour: bool = False, flattened: Sequence[int] = ()) -> KernelSheet | None:
    """The weights of one layer laid out for drawing; None for a layer without kernels.

    ``flattened`` is (maps, height, width) of what a linear layer reads, if it reads flattened maps: its rows are then
    drawn as templates of that shape.
    """
    weight = getattr(module, "weight", None)
    values = _laid_out(module, weight, flattened) if isinstance(weight, torch.Tensor) else None
    return None if values is None else KernelSheet(name, values, colour and values.shape[1] == 3)


def arranged(module: nn.Module, weight: torch.Tensor, like: KernelSheet) -> Numbers:
    """Another tensor of the weights' shape (their gradient, for example), laid out as ``like`` is."""
    flattened = like.values.shape[1:] if isinstance(module, nn.Linear) and like.values.shape[0] > 1 else ()
    values = _laid_out(module, weight, flattened)
    assert values is not None
    return values


def _laid_out(module: nn.Module, weight: torch.Tensor, flattened: Sequence[int]) -> Numbers | None:
    if isinstance(module, layers.TableConv2d):
        table = module.table.cpu()
        values = np.full((*table.shape, *weight.shape[1:]), np.nan)
        values[table.numpy().astype(bool)] = numbers(weight)
    elif isinstance(module, layers.LocallySharedConv2d):  # (rows, columns, out, in, kh, kw): each region in its place
        values = numbers(weight.permute(2, 3, 0, 4, 1, 5))
        values = values.reshape(*values.shape[:2], values.shape[2] * values.shape[3], -1)
    elif isinstance(module, layers.CombinedConv2d):
        values = numbers(weight)[:, None]
    elif isinstance(module, nn.modules.conv._ConvNd):
        values = numbers(weight.transpose(0, 1) if module.transposed else weight)
        if values.ndim == 3:
            values = values[:, :, None, :]
        elif values.ndim == 5:  # depth slices side by side
            values = values.transpose(0, 1, 3, 2, 4).reshape(*values.shape[:2], values.shape[3], -1)
    elif isinstance(module, nn.Linear | layers.RBF):
        values = numbers(weight)
        if len(flattened) == 3 and math.prod(flattened) == values.shape[1]:
            values = values.reshape(len(values), *flattened)
        elif isinstance(module, layers.RBF) and values.shape[1] == 84:
            values = values.reshape(len(values), 1, 12, 7)  # LeCun's 7 × 12 bitmaps
        else:
            values = values[None, None]
    else:
        return None
    return values


def kernels_of_model(walk: Walk) -> list[KernelSheet]:
    """The kernels of every layer that has some, in forward order; a layer called twice is listed once."""
    found: list[KernelSheet] = []
    met: set[int] = set()
    for step in walk:
        if step.module is None or id(step.module) in met:
            continue
        met.add(id(step.module))
        reads_picture = bool(step.inputs) and step.inputs[0].source == walk.input_name and walk.input_shape[0] == 3
        kernels = kernels_of(step.name, step.module, reads_picture, _flattened(step, walk))
        if kernels is not None:
            found.append(kernels)
    return found


def kernels_figure(kernels: KernelSheet) -> Figure:
    """One sheet of a layer's kernels: colour kernels as pictures, others by output map (row) and input map (column)."""
    out_maps, in_maps, height, width = kernels.values.shape
    title, limit = f"{kernels.name} · kernels", symmetric_limit(kernels.values)
    if kernels.colour:
        shown = _strongest_rows(kernels.values, fitting(out_maps, height, width))
        rest = "" if len(shown) == out_maps else f" · the {len(shown)} strongest of {out_maps}"
        subtitle = f"{kernels.described}, drawn in colour: grey is 0, the limits are ±{limit:.3g}{rest}"
        return sheet_of_tiles(colour_tiles(kernels.values[shown], limit), title, subtitle, None)
    if in_maps == 1 or (out_maps == 1 and height * width == 1):
        values = kernels.values[:, 0] if in_maps == 1 else kernels.values[0]
        shown = _strongest_rows(values, fitting(len(values), height, width))
        rest = "" if len(shown) == len(values) else f" · the {len(shown)} strongest of {len(values)}"
        part, subtitle = _cut(values[shown]), kernels.described + rest
        if part.shape != values[shown].shape:
            subtitle += f" · the first {part.shape[1]} × {part.shape[2]} of {height} × {width} weights"
        labels = None
        if len(shown) < len(values):
            labels = [str(index) for index in shown[:: plan(*part.shape).columns]]
        tiles = colourise(part, "weights", limit)
        return sheet_of_tiles(tiles, title, subtitle, ("weights", limit, "weights"), labels=labels)
    rows = _strongest_rows(kernels.values, max(1, min(_MOST_ROWS, 2000 // (height + 2))))
    columns = _strongest_rows(kernels.values[rows].swapaxes(0, 1), max(1, min(_MOST_COLUMNS, 2000 // (width + 2))))
    part = kernels.values[rows][:, columns]
    subtitle = kernels.described
    if part.shape != kernels.values.shape:
        subtitle += f" · the strongest {len(rows)} × {len(columns)}"
    if np.isnan(part).any():
        subtitle += " · grey: not connected"
    return sheet_of_tiles(
        colourise(part.reshape(-1, height, width), "weights", limit),
        title,
        subtitle,
        ("weights", limit, "weights"),
        columns=len(columns),
        labels=[str(index) for index in rows],
        row_title="output map",
        column_title="input map →",
    )


def colour_tiles(values: Numbers, limit: float) -> Pixels:
    """(n, 3, h, w) weights → (n, h, w, 3) colours: each channel ±limit over 0 … 255, grey (128) at 0."""
    scaled = ((values / limit).clip(-1, 1) + 1) / 2
    return np.round(scaled * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def film_figure(name: str, moments: Sequence[tuple[str, torch.Tensor]], colour: bool) -> Figure:
    """A film strip: one row of kernels for each moment of training, the same limits for all.

    ``moments`` are (label, weights (out, in, kh, kw)); of many kernels the first 24 that stay in view are drawn.
    """
    frames = [numbers(weight) for _, weight in moments]
    frames = [frame[:, 0] if frame.ndim == 4 and not colour else frame for frame in frames]
    kept = min(24, len(frames[0]))
    limit = symmetric_limit(np.stack(frames))
    if colour:
        tiles = np.concatenate([colour_tiles(frame[:kept], limit) for frame in frames])
    else:
        tiles = colourise(np.concatenate([frame[:kept] for frame in frames]), "weights", limit)
    legend: tuple[Kind, float, str] | None = None if colour else ("weights", limit, "weights")
    subtitle = f"{kept} kernels, one row a moment of training" + (f"; grey is 0, limits ±{limit:.3g}" if colour else "")
    return sheet_of_tiles(
        tiles,
        f"{name} · kernels while training",
        subtitle,
        legend,
        columns=kept,
        labels=[label for label, _ in moments],
    )


def _strongest_rows(values: Numbers, count: int) -> list[int]:
    if count >= len(values):
        return list(range(len(values)))
    strength = np.abs(np.nan_to_num(values)).reshape(len(values), -1).mean(axis=1)
    return [int(index) for index in np.sort(np.argsort(-strength, kind="stable")[:count])]


def _cut(values: Numbers) -> Numbers:
    """The part of a large matrix that fits on a sheet."""
    return values[:, :2000, :2000]


def _flattened(step: Step, walk: Walk) -> tuple[int, ...]:
    """(maps, height, width) of the maps that were flattened into this step's input; empty where there were none."""
    if not step.inputs:
        return ()
    size = math.prod(step.inputs[0].shape)
    by_name = {item.name: item for item in walk}
    source = step.inputs[0].source
    while source in by_name:
        before = by_name[source]
        shape = before.output_shape or ()
        if math.prod(shape) != size or not before.inputs:
            return ()
        if len(shape) == 4:
            return shape[1:]
        source = before.inputs[0].source
    return walk.input_shape if source == walk.input_name and math.prod(walk.input_shape) == size else ()
