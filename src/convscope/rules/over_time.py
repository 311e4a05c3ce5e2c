"""The largest over time, of sequences of unequal length."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved


@dataclasses.dataclass(frozen=True)
class MaxOverTime(Rule):
    """y_c = max_(t < reach) x_ct;   δ_x goes to the place of the maximum, the first of equal ones

    Collobert et al. 2011. x (n, c, t), y (n, c); the reach of example i is ``lengths[i]`` + ``extra`` places, without
    lengths all t, so that padding behind it has no influence.
    """

    kind = "pool"
    needs = ("places", "size")
    extra: int = 0

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Saved]:
        within = reach_of(x, lengths, self.extra)
        seen = x if within is None else x.masked_fill(~within, -torch.inf)
        y, places = seen.max(2)
        return y, {"places": places, "size": x.shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        to_x = delta.new_zeros(saved["size"]).scatter_(2, saved["places"].unsqueeze(2), delta.unsqueeze(2))
        return (to_x, None), {}


def reach_of(x: Tensor, lengths: Tensor | None, extra: int) -> Tensor | None:
    """Which places count, truth values (n, 1, t); None: all. ArgumentError where an example has none."""
    if lengths is None:
        return None
    if lengths.shape != x.shape[:1] or lengths.is_floating_point():
        raise ArgumentError("lengths", f"{lengths.dtype} {tuple(lengths.shape)}", f"{len(x)} integers, one an example")
    reach = lengths + extra
    if len(reach) and (int(reach.min()) < 1 or int(reach.max()) > x.shape[2]):
        raise ArgumentError("lengths", lengths.tolist()[:8], f"numbers from {1 - extra} to {x.shape[2] - extra}")
    return torch.arange(x.shape[2], device=x.device) < reach[:, None, None]
