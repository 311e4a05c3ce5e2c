"""How layers become records, one family a file; importing this package fills the tables."""

from __future__ import annotations

from convscope.lowering.operators import (
    activations,
    combine,
    convolution,
    normalisation,
    pooling,
    reductions,
    resizing,
    selection,
    views,
)

__all__ = [
    "activations",
    "combine",
    "convolution",
    "normalisation",
    "pooling",
    "reductions",
    "resizing",
    "selection",
    "views",
]
