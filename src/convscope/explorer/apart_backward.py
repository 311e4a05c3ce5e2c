"""One map's δ taken apart: the δ of what reads it, the weights on the way, the partial results, f′(u)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.explorer.apart import Panel, describe, in_order, of_many
from convscope.explorer.arithmetic.families import FAMILIES
from convscope.explorer.arithmetic.kernels import KernelsByMap
from convscope.explorer.arithmetic.layer import Layer
from convscope.explorer.arithmetic.windows import Window, window_of
from convscope.explorer.pictures import as_maps, vector_picture
from convscope.explorer.snapshot import Snapshot


def take_back(
    snapshot: Snapshot, name: str, number: int, rule: str = "plain", start: int = 0
) -> tuple[dict[str, Any], bytes]:
    """The scene for map ``number`` of a layer's δ, in the form of ``elastic.take_apart``.

    "out" is the sum that comes back, ∂J/∂y; where an activation stands between, "activation" is δ = f′(u)·∂J/∂y. The
    kernels are given rotated by 180°, so that they lie over δ as they lie over x in the forward scene.
    """
    deltas = snapshot.deltas(rule)
    layer = snapshot.layer(name)
    network = snapshot.network
    through = name if FAMILIES[layer.family].slope else network.activation_after(name)
    following = network.readers[through or name]
    readers = [(snapshot.layers[reader], place) for reader, place in following if reader in snapshot.layers]
    panels: list[Panel] = []
    count, window = 1, None
    family = "other"
    if len(readers) == 1 and readers[0][0].family == "conv" and readers[0][0].y.ndim == 4:
        family = "conv"
        panels, count, window = _convolution(readers[0][0], layer, number, deltas, start)
    elif len(readers) == 1 and readers[0][0].family == "linear" and layer.y.ndim == 2:
        family = "linear"
        panels = _products(readers[0][0], number, deltas)
    else:
        family = "add" if len(readers) > 1 else "other"
        count = len(readers)
        places = in_order(list(range(count)), start)
        panels = [_reader(readers[place][0], row, number, deltas) for row, place in enumerate(places)]
    shown = sum(panel.role == "source" for panel in panels)
    delta = as_maps(deltas[name][0])[number]
    if through is not None:
        above = snapshot.layers[through].upstream if rule == "plain" else None
        if above is not None:
            panels.append(Panel("out", 0, "delta", through, number, as_maps(above[0])[number]))
            panels.append(Panel("activation", 0, "delta", name, number, delta))
        else:
            panels.append(Panel("out", 0, "delta", name, number, delta))
    else:
        panels.append(Panel("out", 0, "delta", name, number, delta))
    described, data = describe(panels)
    header = {
        "layer": name,
        "map": number,
        "family": family,
        "direction": "backward",
        "panels": described,
        **of_many(start, shown, count),
        "flip": True,
        "bias": None,
        "activation": through,
        "window": window.describe() if window is not None else None,
        "version": snapshot.version,
    }
    return header, data


def _convolution(
    reader: Layer, layer: Layer, number: int, deltas: Mapping[str, Tensor], start: int
) -> tuple[list[Panel], int, Window | None]:
    kernels, window = KernelsByMap(reader), window_of(reader)
    assert window is not None
    maps, weights, where = kernels.fed_by(number)
    delta = deltas[reader.name][:, torch.from_numpy(maps)]
    kernel = torch.from_numpy(weights.reshape(len(maps), 1, *window.kernel).copy()).to(delta.dtype)
    size = reader.inputs[0].shape[2:]
    full = F.conv_transpose2d(delta, kernel, None, window.stride, 0, 0, len(maps), window.dilation)[0]
    reach = [n + 2 * p for n, p in zip(size, window.padding, strict=True)]
    grown = F.pad(full, (0, max(0, reach[1] - full.shape[2]), 0, max(0, reach[0] - full.shape[1])))
    top, left = window.padding
    partial = grown[:, top : top + size[0], left : left + size[1]]
    chosen = in_order(partial.flatten(1).abs().sum(1).argsort(descending=True).tolist(), start)
    panels = []
    for row, place in enumerate(chosen):
        leading = tuple(int(at) for at in where[place, 0, :-2])
        panels.append(Panel("source", row, "delta", reader.name, int(maps[place]), delta[0, place]))
        rotated = kernel[place, 0].flip(0, 1)
        panels.append(Panel("kernel", row, "weight", reader.name, int(maps[place]), rotated, place=leading))
        panels.append(Panel("partial", row, "delta", layer.name, number, partial[place]))
    left_over = len(maps) - len(chosen)
    if left_over:
        remaining = partial.sum(0) - partial[chosen].sum(0)
        panels.append(Panel("rest", len(chosen), "delta", layer.name, number, remaining))
    regular = all(step == 1 for step in window.stride)
    around = tuple(d * (k - 1) - p for d, k, p in zip(window.dilation, window.kernel, window.padding, strict=True))
    return panels, len(maps), Window(window.kernel, (1, 1), around, window.dilation) if regular else None


def _products(reader: Layer, number: int, deltas: Mapping[str, Tensor]) -> list[Panel]:
    delta = deltas[reader.name][0]
    module: Any = reader.module
    column = module.weight[:, number].detach()
    return [
        Panel("source", 0, "delta", reader.name, 0, vector_picture(delta), unfold=True),
        Panel("kernel", 0, "weight", reader.name, 0, vector_picture(column), unfold=True),
        Panel("partial", 0, "delta", reader.name, 0, vector_picture(delta * column), unfold=True),
    ]


def _reader(reader: Layer, row: int, number: int, deltas: Mapping[str, Tensor]) -> Panel:
    """δ of a layer that reads the map: its map of the same number, or all of a vector."""
    delta = deltas[reader.name][0]
    if delta.ndim == 1:
        return Panel("source", row, "delta", reader.name, 0, vector_picture(delta), unfold=True)
    maps = as_maps(delta)
    at = number if number < len(maps) else 0
    return Panel("source", row, "delta", reader.name, at, maps[at])
