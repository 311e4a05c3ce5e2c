"""The largest over time, and what lies within an example's own width: for examples of unequal length."""

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


@dataclasses.dataclass(frozen=True)
class KeepColumns(Rule):
    """y = x in the columns before ``reach``, else 0;   δ_x = δ there, else 0

    x (n, c, h, w), the reach of example i is ``widths[i]`` / ``stride`` columns: what only fills up a batch stays 0
    after each layer, as it would be beyond the edge of the example alone.
    """

    kind = "reshape"
    needs = ("kept",)
    stride: int = 1

    def forward(self, x: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Saved]:
        kept = columns_of(x, widths, self.stride)
        return (x if kept is None else x * kept), {"kept": kept}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta if saved["kept"] is None else delta * saved["kept"], None), {}


def columns_of(x: Tensor, widths: Tensor | None, stride: int) -> Tensor | None:
    """Which columns count, truth values (n, 1, 1, w); None: all. ArgumentError for widths that are no whole steps."""
    if widths is None:
        return None
    if widths.shape != x.shape[:1] or widths.is_floating_point():
        raise ArgumentError("widths", f"{widths.dtype} {tuple(widths.shape)}", f"{len(x)} integers, one an example")
    if bool((widths % stride != 0).any()) or int(widths.max()) > stride * x.shape[3]:
        raise ArgumentError("widths", widths.tolist()[:8], f"multiples of {stride} up to {stride * x.shape[3]}")
    return torch.arange(x.shape[3], device=x.device) < (widths // stride)[:, None, None, None]
