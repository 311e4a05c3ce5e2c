"""What is true of every layer of a family: the one table that the arithmetic, the receptive fields, the page, a saved
page and the documentation read.

A new family is one line here, a name in both languages (``family_…`` in the page's texts), and what its sums are
(``arithmetic.forward`` and ``arithmetic.backward``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Maps = Literal["all", "same", "concat", "reshape"]
Pick = Literal["", "largest", "smallest", "middle"]


@dataclasses.dataclass(frozen=True)
class Family:
    """``maps``: which maps of the source a map is made of (a convolution's groups and tables say less than "all").
    ``window``: a unit reads a window of places; ``place``: it reads its own place alone. ``picks``: of a window one
    place passes on, the others nothing. ``sum``: it is drawn as a sum of what its sources bring. ``weights``: its
    derivative by an input is a weight. ``slope``: it ends in a function whose f′(u) stands in its δ. ``map_by_map``:
    map j reads map j and no other, whatever the places."""

    maps: Maps = "same"
    window: bool = False
    place: bool = False
    picks: Pick = ""
    sum: bool = False
    weights: bool = False
    slope: bool = False
    map_by_map: bool = False


def _pool(picks: Pick = "") -> Family:
    return Family(window=True, picks=picks, map_by_map=True)


FAMILIES: Mapping[str, Family] = {
    "conv": Family("all", window=True, sum=True, weights=True),
    "linear": Family("all", sum=True, weights=True),
    "rbf": Family("all", sum=True),
    "subsample": Family(window=True, slope=True, map_by_map=True),
    "max_pool": _pool("largest"),
    "min_pool": _pool("smallest"),
    "median_pool": _pool("middle"),
    "mean_pool": _pool(),
    "sum_pool": _pool(),
    "l2_pool": _pool(),
    "adaptive_mean_pool": Family(map_by_map=True),
    "max_over_time": Family(),
    "roi_pool": Family(),
    "roi_align": Family(),
    "batch_norm": Family(place=True, map_by_map=True),
    "layer_norm": Family(),
    "lrn": Family(place=True),
    "activation": Family(place=True, slope=True, map_by_map=True),
    "softmax": Family("all", place=True),
    "log_softmax": Family("all", place=True),
    "identity": Family(place=True, map_by_map=True),
    "reshape": Family("reshape"),
    "add": Family(place=True, sum=True, map_by_map=True),
    "concat": Family("concat", place=True),
    "total": Family(sum=True, map_by_map=True),
    "total_across": Family("all", sum=True),
    "affine_grid": Family(),
    "grid_sample": Family(sum=True),
    "attention": Family("all"),
    "lstm": Family("all"),
    "other": Family("all"),
}


def facts() -> dict[str, dict[str, Any]]:
    """The table as the page gets it."""
    return {name: dataclasses.asdict(family) for name, family in FAMILIES.items()}
