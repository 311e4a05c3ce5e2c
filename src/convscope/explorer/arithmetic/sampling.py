"""A spatial transformer's two steps: where the affine grid looks, and the four pixels that the sampler mixes there."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from convscope.explorer.arithmetic.backward import reads
from convscope.explorer.arithmetic.forward import explanation, family
from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles, number
from convscope.explorer.arithmetic.terms import Explanation, Integers, Line, Terms, places
from convscope.rules.sampling import AffineGrid, GridSample, grid_lines


@dataclasses.dataclass(frozen=True)
class Looked:
    """Where a sampler looks, in rows and columns of its input, (height, width) of its output each; and how these move
    with the grid."""

    row: Floats
    column: Floats
    down: Floats
    across: Floats


def looked(layer: Layer) -> Looked:
    """Every place that a sampler's grid names, float64."""
    rule, (x, grid) = layer.rule, layer.inputs
    assert isinstance(rule, GridSample)
    height, width = x.shape[2:]
    row, down = rule.places(grid[0, ..., 1].double(), height)
    column, across = rule.places(grid[0, ..., 0].double(), width)
    return Looked(doubles(row), doubles(column), doubles(down), doubles(across))


def _corners(where: Looked, at: tuple[int, int]) -> tuple[Integers, Integers, Floats, Floats]:
    """Rows, columns and weights of the four pixels around a place, and how the weights move with row and column."""
    row, column = float(where.row[at]), float(where.column[at])
    top, left = int(np.floor(row)), int(np.floor(column))
    lower, right = row - top, column - left
    i, j = np.array([top, top, top + 1, top + 1]), np.array([left, left + 1, left, left + 1])
    down, across = np.array([1 - lower, 1 - lower, lower, lower]), np.array([1 - right, right, 1 - right, right])
    moves = np.stack((np.array([-1, 1, -1, 1]) * down, np.array([-1, -1, 1, 1]) * across))  # (column, row) × corner
    return i, j, down * across, moves


def _pixels(x: Floats, i: Integers, j: Integers) -> tuple[Floats, Any]:
    """The values of one map at rows and columns, 0 beyond its edges; and which are beyond."""
    height, width = x.shape
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    return x[np.clip(i, 0, height - 1), np.clip(j, 0, width - 1)] * inside, ~inside


@family("grid_sample")
def _sampled(layer: Layer, unit: Index) -> Explanation:
    """y = Σ w·x: the four pixels around the place, each by how near it is (``rules.sampling.GridSample``)."""
    channel, at = unit[0], (unit[1], unit[2])
    where = looked(layer)
    i, j, weights, _ = _corners(where, at)
    values, beyond = _pixels(doubles(layer.inputs[0][0, channel]), i, j)
    terms = Terms(
        value=values,
        product=weights * values,
        coefficient=weights,
        source=places(channel, i, j, rows=4),
        padding=beyond,
    )
    formula = f"y = Σ w·x,  w = (1 − |r − i|)·(1 − |c − j|),  (r, c) = ({where.row[at]:.4f}, {where.column[at]:.4f})"
    found = explanation(layer, unit, formula, ("w", "x", "w·x"), terms, Line("=", "y", number(layer.y, unit)))
    return dataclasses.replace(found, origins=layer.sources[:1])  # the grid has no term of its own


@family("affine_grid")
def _gridded(layer: Layer, unit: Index) -> Explanation:
    """g = θ·(x, y, 1)ᵀ at one place of the output (``rules.sampling.AffineGrid``)."""
    row, column, way = unit
    theta = doubles(layer.inputs[0][0, way])
    place = _place(layer)[row, column]
    terms = Terms(value=theta, product=place * theta, coefficient=place, source=places(way, np.arange(3), rows=3))
    end = Line("=", "g", number(layer.y, unit))
    return explanation(layer, unit, "g = θ·(x, y, 1)ᵀ", ("x, y, 1", "θ", "(x, y, 1)·θ"), terms, end)


def _place(layer: Layer) -> Floats:
    """(x_v, y_u, 1) of every place of the output, (height, width, 3)."""
    rule = layer.rule
    assert isinstance(rule, AffineGrid)
    rows, columns = (doubles(line) for line in grid_lines(rule.size, rule.align_corners, torch.zeros(0).double()))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.stack((x, y, np.ones_like(x)), 2)


@reads("grid_sample")
def _through_sampler(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    """To a pixel: every place that looks at it, by its weight. To the grid: how the weights of the four pixels move,
    times what they hold, for every map."""
    where = looked(reader)
    if place == 0:
        channel, i, j = index
        near = np.clip(1 - np.abs(where.row - i), 0, None) * np.clip(1 - np.abs(where.column - j), 0, None)
        u, v = np.nonzero(near)
        values = delta[channel, u, v]
        return Terms(values, near[u, v] * values, near[u, v], source=places(channel, u, v, rows=len(u)))
    return _to_the_grid(reader, where, (index[0], index[1]), index[2], delta)


def _to_the_grid(reader: Layer, where: Looked, at: tuple[int, int], way: int, delta: Floats) -> Terms:
    """Four terms a map: how the weight of a pixel moves with the place, times δ and what the pixel holds."""
    i, j, _, moves = _corners(where, at)
    slope = float((where.across, where.down)[way][at])
    maps = doubles(reader.inputs[0][0])
    found = [_pixels(each, i, j) for each in maps]
    values, beyond = np.concatenate([v for v, _ in found]), np.concatenate([b for _, b in found])
    moved = np.concatenate([slope * moves[way] * delta[(channel, *at)] for channel in range(len(maps))])
    channels = np.repeat(np.arange(len(maps)), 4)
    source = places(channels, np.tile(i, len(maps)), np.tile(j, len(maps)), rows=len(channels))
    return Terms(values, moved * values, moved, source=source, padding=beyond)


@reads("affine_grid")
def _through_grid(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    way, k = index
    coefficient, values = _place(reader)[..., k].reshape(-1), delta[..., way].reshape(-1)
    u, v = (each.reshape(-1) for each in np.indices(delta.shape[:2]))
    return Terms(values, coefficient * values, coefficient, source=places(u, v, way, rows=len(u)))
