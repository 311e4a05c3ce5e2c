"""Pooling of one region: which places of the map a bin reads, and how much of each."""

from __future__ import annotations

import numpy as np

from convscope.explorer.arithmetic.forward import explanation, family
from convscope.explorer.arithmetic.layer import Index, Layer, doubles, number
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, places
from convscope.rules.regions import RoIAlign, RoIPool, bins_of, samplings


def part_read(layer: Layer) -> list[list[int]]:
    """[first, last + 1] of the rows and of the columns of the map that the bins of the region read; [0, 0] for both
    where they read none, as beyond the map."""
    rule, (x, rois) = layer.rule, layer.inputs
    if isinstance(rule, RoIAlign):
        _, down, across = samplings(x.double(), rois.double(), rule)
        read = [np.flatnonzero(doubles(each[0]).sum(0)) for each in (down, across)]
    else:
        assert isinstance(rule, RoIPool)
        _, (top, bottom, left, right) = bins_of(x, rois, rule.output_size, rule.spatial_scale)
        bins = [zip(each[0].tolist(), end[0].tolist(), strict=True) for each, end in ((top, bottom), (left, right))]
        read = [np.array([at for first, end in each for at in range(first, end)]) for each in bins]
    if not all(len(places) for places in read):
        return [[0, 0], [0, 0]]
    return [[int(places.min()), int(places.max()) + 1] for places in read]


@family("roi_align")
def _roi_align(layer: Layer, unit: Index) -> Explanation:
    """y = Σ a·b·x: the mean of a bin's bilinear samples, a down and b across (``rules.regions.RoIAlign``)."""
    rule, (x, rois) = layer.rule, layer.inputs
    assert isinstance(rule, RoIAlign)
    channel, row, column = unit
    _, down, across = samplings(x.double(), rois.double(), rule)
    share = np.outer(doubles(down[0, row]), doubles(across[0, column]))
    i, j = np.nonzero(share)
    values = doubles(x[0, channel])[i, j]
    terms = Terms(
        value=values,
        product=share[i, j] * values,
        coefficient=share[i, j],
        source=places(channel, i, j, rows=len(i)),
    )
    end = Line("=", "y", number(layer.y, unit))
    return explanation(layer, unit, "y = Σ a·b·x", ("a·b", "x", "a·b·x"), terms, end)


@family("roi_pool")
def _roi_pool(layer: Layer, unit: Index) -> Explanation:
    """y = max x over the bin (equation 40): every place that it reads, the first of the largest counting 1; a bin
    beyond the map is 0."""
    rule, (x, rois) = layer.rule, layer.inputs
    assert isinstance(rule, RoIPool)
    channel, row, column = unit
    _, bins = bins_of(x, rois, rule.output_size, rule.spatial_scale)
    top, bottom, left, right = (int(each[0, at]) for each, at in zip(bins, (row, row, column, column), strict=True))
    i, j = (each.flatten() for each in np.mgrid[top:bottom, left:right])
    values = doubles(x[0, channel])[i, j]
    winner = np.zeros(len(values))
    if len(values):
        winner[int(values.argmax())] = 1.0
    terms = Terms(
        value=values, product=winner * values, coefficient=winner, source=places(channel, i, j, rows=len(i))
    )  # fmt: skip
    end = Line("=", "y", number(layer.y, unit))
    return explanation(layer, unit, "y = max(x)", ("c", "x", "c·x"), terms, end)
