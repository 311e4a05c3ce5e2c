"""One map taken apart, as pictures: what comes in, the weights, the partial results, and what goes out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.explorer.arithmetic.kernels import KernelsByMap
from convscope.explorer.arithmetic.layer import Layer, doubles
from convscope.explorer.arithmetic.windows import window_of
from convscope.explorer.looking import lattice, sampler_of
from convscope.explorer.network import INPUT
from convscope.explorer.pictures import as_maps, near_square, robust_limit, vector_picture
from convscope.explorer.snapshot import Snapshot

ROWS = 8  # sources shown one by one; what the others add is one picture
EXACT_SIDE = 64  # larger pictures come as area means, their numbers on demand


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture of the scene. ``role``: source, kernel, partial, rest, out or activation; ``row`` pairs the first
    three.

    ``layer`` and ``map`` say which map it is, ``kind`` which colours it has; ``unfold`` lays a vector out as a picture:
    cell k of it is unit k. ``place`` is where a kernel stands in the layer's weight, the leading indices.
    """

    role: str
    row: int
    kind: str
    layer: str
    map: int
    values: Tensor
    unfold: bool = False
    place: tuple[int, ...] = ()


def take_apart(
    snapshot: Snapshot, name: str, number: int, start: int = 0, kernel: tuple[int, ...] | None = None
) -> tuple[dict[str, Any], bytes]:
    """The scene for map ``number`` of a layer: a description of its panels, and their values as float32 one by one.

    Of many sources ``ROWS`` are shown, from place ``start`` of them by how much they add; of a convolution those among
    which the one with ``kernel``, the leading indices of its weight, is. Raises ArgumentError when there are not so
    many.
    """
    layer = snapshot.layer(name)
    if layer.family == "conv" and layer.y.ndim in (3, 4):
        panels, count, start = _convolution(layer, number, start, kernel)
    else:
        panels, count = _panels(snapshot, layer, number, start)
    shown = sum(panel.role == "source" for panel in panels)
    after = snapshot.network.activation_after(name)
    panels.append(Panel("out", 0, "activation", name, number, _map(layer.y, number)))
    if after is not None:
        panels.append(Panel("activation", 0, "activation", after, number, _map(snapshot.layers[after].y, number)))
    described, data = describe(panels)
    window = window_of(layer)
    header = {
        "layer": name,
        "map": number,
        "family": layer.family,
        "direction": "forward",
        "panels": described,
        **of_many(start, shown, count),
        "flip": bool(getattr(layer.module, "flip_kernel", False)),
        "bias": _bias(layer, number),
        "activation": after,
        "window": window.describe() if window is not None else None,
        "lattice": lattice(snapshot, layer),
        "version": snapshot.version,
    }
    return header, data


def in_order(order: list[int], start: int) -> list[int]:
    """``ROWS`` entries of ``order`` from place ``start``, in the network's own order."""
    return sorted(order[start : start + ROWS])


def of_many(first: int, shown: int, count: int) -> dict[str, int]:
    """Which of ``count`` sources are shown: ``shown`` of them from place ``first``, ``more`` are not; ``rows`` a page.

    Raises ArgumentError for a place that is not among them.
    """
    if first >= max(1, count):
        raise ArgumentError("start", first, f"0…{max(0, count - 1)}, a place among the map's inputs")
    return {"first": first, "count": count, "more": count - shown, "rows": ROWS}


def describe(panels: list[Panel]) -> tuple[list[dict[str, Any]], bytes]:
    """The panels for the page, and their values as float32 one after the other."""
    described, data, offset = [], [], 0
    for panel in panels:
        values = panel.values.detach().float()
        full = list(values.shape)
        if max(full) > EXACT_SIDE:
            scale = EXACT_SIDE / max(full)
            size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
            values = F.adaptive_avg_pool2d(values[None, None], size)[0, 0]
        limit, low, high = robust_limit(panel.values)
        raw = np.ascontiguousarray(values.cpu().numpy().astype("<f4")).tobytes()
        described.append(
            {
                **{
                    field: getattr(panel, field) for field in ("role", "row", "kind", "layer", "map", "unfold", "place")
                },
                "height": values.shape[0],
                "width": values.shape[1],
                "full": full,
                "limit": limit,
                "low": low,
                "high": high,
                "offset": offset,
            }
        )
        offset += len(raw)
        data.append(raw)
    return described, b"".join(data)


def _panels(snapshot: Snapshot, layer: Layer, number: int, start: int) -> tuple[list[Panel], int]:
    """(the panels before the output, how many sources there are)"""
    match layer.family:
        case "linear" | "rbf" if layer.inputs[0].ndim == 2:
            return _products(snapshot, layer, number), 1
        case "softmax" | "log_softmax" | "reshape" if layer.inputs[0].ndim == 2 or layer.family == "reshape":
            return [_vector(snapshot, layer, "source", layer.inputs[0][0].reshape(-1), "activation")], 1
        case "concat":
            return _concatenated(layer, number), 1
        case "total_across":
            return _every_map(layer, start)
        case "roi_align" | "roi_pool" | "grid_sample":  # the box is no map, nor is the grid, which is drawn over it
            return _same_map(dataclasses.replace(layer, inputs=layer.inputs[:1]), number, start)
        case "affine_grid" if (sampler := sampler_of(snapshot, layer)) is not None:  # what the grid is laid over
            return _same_map(dataclasses.replace(sampler, inputs=sampler.inputs[:1]), 0, start)
        case _:
            return _same_map(layer, number, start)


def _convolution(layer: Layer, number: int, start: int, wanted: tuple[int, ...] | None) -> tuple[list[Panel], int, int]:
    """(the panels before the output, how many sources there are, the place of the first one shown)"""
    kernels, window = KernelsByMap(layer), window_of(layer)
    assert window is not None
    maps, weights, where = kernels.feeding(number)
    dims = layer.y.ndim - 2
    x = layer.inputs[0][:, torch.from_numpy(maps)].detach()
    kernel = torch.from_numpy(weights.reshape(len(maps), 1, *window.kernel)).to(x.dtype)
    module: Any = layer.module
    run = F.conv1d if dims == 1 else F.conv2d
    padding: Any = module.padding
    partial = run(x, kernel, None, window.stride, padding, window.dilation, len(maps))[0]
    order = partial.flatten(1).abs().sum(1).argsort(descending=True).tolist()
    if wanted is not None:
        found = [rank for rank, place in enumerate(order) if tuple(where[place, 0, :-dims]) == wanted]
        start = found[0] // ROWS * ROWS if found else start
    chosen = in_order(order, start)
    panels = []
    for row, place in enumerate(chosen):
        source = int(maps[place])
        panels.append(Panel("source", row, _kind(layer), layer.sources[0], source, _picture(x[0, place])))
        leading = tuple(int(at) for at in where[place, 0, :-dims])
        panels.append(Panel("kernel", row, "weight", layer.name, number, _picture(kernel[place, 0]), place=leading))
        panels.append(Panel("partial", row, "activation", layer.name, number, _picture(partial[place])))
    rest = len(maps) - len(chosen)
    if rest:
        left = partial.sum(0) - partial[chosen].sum(0)
        panels.append(Panel("rest", len(chosen), "activation", layer.name, number, _picture(left)))
    return panels, len(maps), start


def _products(snapshot: Snapshot, layer: Layer, number: int) -> list[Panel]:
    """A unit's inputs, weights and products, each laid out as one picture."""
    x = layer.inputs[0][0].detach()
    weight: Any = getattr(layer.module, "weight")  # noqa: B009  (typed as Tensor | Module)
    row = weight[number].detach()
    product = (x - row) ** 2 if layer.family == "rbf" else x * row
    return [
        _vector(snapshot, layer, "source", x, _kind(layer)),
        dataclasses.replace(_vector(snapshot, layer, "kernel", row, "weight"), place=(number,)),
        _vector(snapshot, layer, "partial", product, "activation"),
    ]


def _vector(snapshot: Snapshot, layer: Layer, role: str, values: Tensor, kind: str) -> Panel:
    return Panel(role, 0, kind, layer.sources[0], 0, vector_picture(values, unflattened(snapshot, layer)), unfold=True)


def unflattened(snapshot: Snapshot, layer: Layer) -> tuple[int, ...] | None:
    """The shape of the maps that a vector input was flattened from."""
    if not layer.sources or layer.sources[0] == INPUT:
        return None
    above = snapshot.layers[layer.sources[0]]
    return tuple(above.inputs[0].shape[1:]) if above.family == "reshape" else None


def unfolding(size: int, like: tuple[int, ...] | None) -> dict[str, Any]:
    """How ``vector_picture`` lays a vector out, for the page: tiles of (height, width) in ``columns``."""
    if like is not None and len(like) == 3 and int(np.prod(like)) == size and like[1] * like[2] > 1:
        return {"columns": near_square(like[0])[1], "tile": [like[1], like[2]]}
    return {"columns": near_square(size)[1], "tile": [1, 1]}


def _concatenated(layer: Layer, number: int) -> list[Panel]:
    before = 0
    for place, value in enumerate(layer.inputs):
        count = as_maps(value[0]).shape[0]
        if number < before + count:
            at = number - before
            return [Panel("source", 0, "activation", layer.sources[place], at, _map(value, at))]
        before += count
    return []


def _same_map(layer: Layer, number: int, start: int) -> tuple[list[Panel], int]:
    panels = []
    places = [at for at, value in enumerate(layer.inputs) if value.ndim]  # but for numbers without places
    for row, place in enumerate(in_order(places, start)):
        value = layer.inputs[place]
        maps = as_maps(value[0])
        at = number if number < len(maps) else 0
        source = layer.sources[place] if place < len(layer.sources) else INPUT
        panels.append(Panel("source", row, _kind(layer), source, at, maps[at].detach()))
    return panels, len(places)


def _every_map(layer: Layer, start: int) -> tuple[list[Panel], int]:
    """Maps of what is summed over; (panels, how many maps there are)."""
    maps = as_maps(layer.inputs[0][0])
    panels = [
        Panel("source", row, _kind(layer), layer.sources[0], at, maps[at].detach())
        for row, at in enumerate(in_order(list(range(len(maps))), start))
    ]
    return panels, len(maps)


def _kind(layer: Layer) -> str:
    return "input" if layer.sources and layer.sources[0] == INPUT else "activation"


def _map(values: Tensor, number: int) -> Tensor:
    return as_maps(values[0])[number].detach()


def _picture(values: Tensor) -> Tensor:
    return values[None] if values.ndim == 1 else values


def _bias(layer: Layer, number: int) -> float | None:
    bias = getattr(layer.module, "bias", None)
    if layer.family not in ("conv", "linear") or not isinstance(bias, Tensor):
        return None
    return float(doubles(bias)[number])
