"""How a layer's values are spread over a batch: histograms of activations and sensitivities, units that never fire."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from convscope.columns import aligned
from convscope.inspect.trace import LayerTrace, Trace
from convscope.rules.elementwise import Elementwise

_BINS = 40
_MARGIN = 0.01  # saturated: f(u) within 1 % of half the range from its end, where the derivative has all but vanished


@dataclasses.dataclass(frozen=True)
class Histogram:
    """``counts`` in equal steps from ``low`` to ``high``."""

    counts: npt.NDArray[np.float64]
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor, bins: int = _BINS) -> Histogram:
        """Of the finite ones among ``values``; a single bar where they are all the same."""
        flat = values.detach().cpu().double().flatten()
        flat = flat[flat.isfinite()]
        if not len(flat):
            return cls(np.zeros(bins), 0.0, 1.0)
        low, high = float(flat.min()), float(flat.max())
        if high <= low:
            low, high = low - 0.5, high + 0.5
        counts, _ = np.histogram(flat.numpy(), bins, (low, high))
        return cls(counts.astype(np.float64), low, high)


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """One layer over a batch.

    ``units`` are its maps (or single outputs), ``dead`` how many of them are 0 for every picture at every place, None
    for what is no rectifier; ``saturated`` the share of values within 1 % of the range's end for what saturates
    (sigmoid, tanh, hard tanh …), else None. ``delta`` is None without a target.
    """

    name: str
    type: str
    units: int
    activation: Histogram
    delta: Histogram | None
    mean: float
    deviation: float
    zero: float
    dead: int | None
    dead_units: tuple[int, ...]
    saturated: float | None


def layer_statistics(traced: Trace) -> list[LayerStatistics]:
    """Statistics of every layer of a trace that put out a single tensor."""
    return [_statistics(layer) for layer in traced if isinstance(layer.y, Tensor)]


def dead_table(statistics: Sequence[LayerStatistics]) -> str:
    """Rectifiers with their dead units, saturating activations with their saturated share, as text."""
    rows = [("layer", "kind", "units", "dead", "saturated", "zero", "which")]
    for item in statistics:
        if item.dead is None and item.saturated is None:
            continue
        dead = "–" if item.dead is None else f"{item.dead} ({item.dead / max(item.units, 1):.0%})"
        saturated = "–" if item.saturated is None else f"{item.saturated:.1%}"
        shown = ", ".join(map(str, item.dead_units[:12])) + (", …" if len(item.dead_units) > 12 else "")
        rows.append((item.name, item.type, str(item.units), dead, saturated, f"{item.zero:.0%}", shown))
    if len(rows) == 1:
        return "No rectifiers and no saturating activations."
    return aligned(rows, left=len(rows[0]))


def _statistics(layer: LayerTrace) -> LayerStatistics:
    y = layer.y.detach()
    by_unit = (y.transpose(0, 1).flatten(1) if y.ndim > 1 else y[None]).double()  # (units, n·h·w)
    dead: tuple[int, ...] = ()
    rule = layer.rule if isinstance(layer.rule, Elementwise) else None
    if rule is not None and rule.rectifies:
        dead = tuple(int(unit) for unit in (by_unit <= 0).all(1).nonzero().flatten())
    saturated = None
    if rule is not None and (limits := rule.limits()) is not None:
        low, high = limits
        margin = _MARGIN * (high - low) / 2
        saturated = float(((y < low + margin) | (y > high - margin)).double().mean())
    delta = layer.delta if isinstance(layer.delta, torch.Tensor) else None
    return LayerStatistics(
        name=layer.name,
        type=layer.type,
        units=len(by_unit),
        activation=Histogram.of(y),
        delta=None if delta is None else Histogram.of(delta),
        mean=float(by_unit.mean()),
        deviation=float(by_unit.std(correction=0)),
        zero=float((by_unit == 0).double().mean()),
        dead=len(dead) if rule is not None and rule.rectifies else None,
        dead_units=dead,
        saturated=saturated,
    )
