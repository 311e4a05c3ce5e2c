"""Tensors as pictures for the page: maps, kernels as mosaics, 8-bit tiles about zero, exact floats on demand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convscope import layers as own
from convscope.explorer.arithmetic import Layer

QUANTITIES = ("activation", "delta", "weight", "gradient")
TILE = 28  # pixels of an overview tile's longer side at most: what a 40-pixel square can show
OVERVIEW_TILES = 64
MOSAIC = 64


def as_maps(values: Tensor) -> Tensor:
    """A layer's output without the batch as pictures (maps, rows, columns): units of a vector are maps of one cell."""
    match values.ndim:
        case 0:
            return values.reshape(1, 1, 1)
        case 1:
            return values[:, None, None]
        case 2:
            return values[:, None, :]
        case 3:
            return values
        case _:
            return values.reshape(values.shape[0], -1, values.shape[-1])


def near_square(count: int) -> tuple[int, int]:
    """Rows and columns for ``count`` cells, at least as wide as high."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def mosaic(tiles: Tensor) -> Tensor:
    """(m, h, w) → one picture with the tiles side by side; missing ones are zero."""
    rows, columns = near_square(len(tiles))
    missing = rows * columns - len(tiles)
    padded = F.pad(tiles, (0, 0, 0, 0, 0, missing))
    _, h, w = padded.shape
    return padded.reshape(rows, columns, h, w).permute(0, 2, 1, 3).reshape(rows * h, columns * w)


def vector_picture(values: Tensor, like: tuple[int, ...] | None = None) -> Tensor:
    """A vector as a picture: as the mosaic of the maps it was flattened from, else near-square."""
    if like is not None and len(like) == 3 and math.prod(like) == len(values) and like[1] * like[2] > 1:
        return mosaic(values.reshape(like))
    rows, columns = near_square(len(values))
    return F.pad(values, (0, rows * columns - len(values))).reshape(rows, columns)


def kernels(layer: Layer, parameter: Tensor, like: tuple[int, ...] | None = None) -> Tensor:
    """A weight (or its gradient) as one picture for each output map, (maps, rows, columns)."""
    if isinstance(layer.module, own.TableConv2d):
        dense = parameter.new_zeros(layer.module.out_channels, layer.module.in_channels, *parameter.shape[1:])
        parameter = dense.index_put(layer.module.table.nonzero(as_tuple=True), parameter)
    if parameter.ndim == 1:
        return parameter[:, None, None]
    if parameter.ndim == 2:
        return torch.stack([vector_picture(row, like) for row in parameter[:OVERVIEW_TILES]])
    flat = parameter.reshape(
        parameter.shape[0], parameter.shape[1] if parameter.ndim > 3 else 1, -1, parameter.shape[-1]
    )
    if layer.family != "conv" and parameter.ndim > 4:
        flat = parameter.reshape(-1, 1, *parameter.shape[-2:])
    return torch.stack([mosaic(tiles[:MOSAIC]) for tiles in flat])


def quantity(layer: Layer, name: str, delta: Tensor | None, like: tuple[int, ...] | None = None) -> Tensor | None:
    """A layer's pictures (maps, rows, columns) of one kind; None where the layer has none of it."""
    if name == "activation":
        return as_maps(layer.y[0])
    if name == "delta":
        return None if delta is None else as_maps(delta[0])
    if name == "weight":
        found = getattr(layer.module, "weight", None) if layer.module is not None else None
    else:
        found = layer.gradients.get("weight")
    return kernels(layer, found.detach(), like) if isinstance(found, Tensor) else None


@dataclasses.dataclass(frozen=True)
class Tiles:
    """8-bit pictures: value ≈ (byte − 128) / 127 · limit. ``limit`` is robust: the 99.5th percentile of |value|."""

    data: bytes
    count: int
    total: int
    height: int
    width: int
    full: tuple[int, int]
    limit: float
    low: float
    high: float

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "data"}


def tiles(maps: Tensor, start: int = 0, stop: int = OVERVIEW_TILES, side: int = TILE) -> Tiles:
    """Maps ``start`` … ``stop`` of (n, h, w), shrunk by area means to at most ``side`` pixels, as bytes about zero."""
    maps = maps.detach()
    limit, low, high = robust_limit(maps)
    part = maps[start:stop].float()
    full = (int(maps.shape[1]), int(maps.shape[2]))
    longest = max(full)
    if longest > side:
        size = (max(1, round(full[0] * side / longest)), max(1, round(full[1] * side / longest)))
        part = F.adaptive_avg_pool2d(part[:, None], size)[:, 0]
    levels = part.cpu().numpy() / limit * 127
    if not (math.isfinite(low) and math.isfinite(high)):
        levels = np.nan_to_num(levels, nan=0.0, posinf=127.0, neginf=-127.0)
    data = (np.clip(np.rint(levels), -127, 127) + 128).astype(np.uint8).tobytes()
    return Tiles(data, len(part), len(maps), part.shape[1], part.shape[2], full, limit, low, high)


def robust_limit(values: Tensor) -> tuple[float, float, float]:
    """(99.5th percentile of |value|, smallest, largest); the first is positive. Large tensors are sampled."""
    flat = values.detach().flatten()
    if not len(flat):
        return 1.0, 0.0, 0.0
    if len(flat) <= 16384 and flat.dtype in (torch.float32, torch.float64):  # for which torch's calls take longer
        sizes = flat.cpu().numpy()
        low, high = float(sizes.min()), float(sizes.max())
        sizes = np.abs(sizes)
    else:
        low, high = (float(each) for each in torch.aminmax(flat))
        sizes = np.abs(flat[:: max(1, len(flat) // 16384)].double().cpu().numpy())
    if not (math.isfinite(low) and math.isfinite(high)):
        sizes = sizes[np.isfinite(sizes)]
    rank = int(0.995 * (len(sizes) - 1))
    limit = float(np.partition(sizes, rank)[rank]) if len(sizes) else 1.0
    largest = max(abs(low), abs(high))
    if limit < largest * 1e-3 and math.isfinite(largest):  # mostly zeros: the percentile says nothing
        limit = largest
    return (limit if limit > 0 and math.isfinite(limit) else 1.0), low, high


def exact(values: Tensor) -> bytes:
    """float32 (float64 for a float64 model), little-endian, row by row."""
    array = values.detach().cpu().numpy()
    return np.ascontiguousarray(array.astype("<f8" if values.dtype == torch.float64 else "<f4")).tobytes()
