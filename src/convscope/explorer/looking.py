"""Where a spatial transformer's grid looks, as the scene draws it: a lattice over the picture that is looked at."""

from __future__ import annotations

import math
from typing import Any

from convscope.explorer.arithmetic.layer import Layer
from convscope.explorer.arithmetic.sampling import looked
from convscope.explorer.snapshot import Snapshot

MOST_PLACES = 64  # along a side; of a larger grid every second, third … place is drawn


def sampler_of(snapshot: Snapshot, layer: Layer) -> Layer | None:
    """The sampler that a layer is, or that reads it as its grid; None for other layers."""
    if layer.family == "grid_sample":
        return layer
    if layer.family == "affine_grid":
        for name, place in snapshot.network.readers[layer.name]:
            if place == 1 and name in snapshot.layers and snapshot.layers[name].family == "grid_sample":
                return snapshot.layers[name]
    return None


def lattice(snapshot: Snapshot, layer: Layer) -> dict[str, Any] | None:
    """{"rows", "columns": where each place of the output is taken from, in pixels of the input; "step": every how
    manieth place is told} of the sampler that ``layer`` is or feeds; None where there is none."""
    sampler = sampler_of(snapshot, layer)
    if sampler is None:
        return None
    where = looked(sampler)
    step = max(1, math.ceil(max(where.row.shape) / MOST_PLACES))
    rows, columns = (line[::step, ::step].round(4).tolist() for line in (where.row, where.column))
    return {"rows": rows, "columns": columns, "step": step}
