"""Health over the data set: units that never fire, saturation, and how large a step is beside the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from convscope.data import prepare
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation
from convscope.inspect import trace
from convscope.inspect.attribution import StoppedError
from convscope.inspect.statistics import LayerStatistics, layer_statistics

_NUMBERS = 400_000  # of inputs at once
MOST = 5_000


@operation(job=True, latest=True, gives_way=True)
def health(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Each layer over the first ``count`` pictures of a split (without data: the picture shown), and each parameter's
    ‖Δw‖/‖w‖ for a step on the picture shown at the present rate."""
    merged: dict[str, _Merged] = {}
    seen = 0
    for x in _batches(session, args.text("split", "test", ("train", "test")), args.integer("count", 256, 1, MOST)):
        if session.cancelled.is_set():
            raise StoppedError("cancelled")
        for item in layer_statistics(trace(session.network.graph, x)):
            if item.name in session.network.nodes:
                merged.setdefault(item.name, _Merged()).add(item, len(x))
        seen += len(x)
    layers = [each.described() for each in merged.values()]
    return Reply(finite({"pictures": seen, "layers": layers, "steps": _steps(session)}))


def _batches(session: Session, split: str, count: int) -> Any:
    desk = session.desk
    if desk.data is None:
        yield session.snapshot.question.x
        return
    images = desk.split(split).images[:count]
    size = max(1, min(64, _NUMBERS // max(1, desk.picture_shape[0] * desk.picture_shape[1] * desk.picture_shape[2])))
    for start in range(0, len(images), size):
        pixels: Tensor = prepare(images[start : start + size], desk.preprocessing)
        yield desk.preprocessing.normalise(pixels).reshape(len(pixels), *desk.input_shape)


@dataclasses.dataclass
class _Merged:
    """One layer's statistics over several batches."""

    last: LayerStatistics | None = None
    dead: set[int] | None = None
    count: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, item: LayerStatistics, count: int) -> None:
        self.last = item
        if item.dead is not None:
            self.dead = set(item.dead_units) if self.dead is None else self.dead & set(item.dead_units)
        self.count += count
        for name in ("saturated", "zero", "mean"):
            value = getattr(item, name)
            if value is not None:
                self.sums[name] = self.sums.get(name, 0.0) + value * count

    def described(self) -> dict[str, Any]:
        assert self.last is not None
        shares = {name: total / self.count for name, total in self.sums.items()}
        return {
            "layer": self.last.name,
            "type": self.last.type,
            "units": self.last.units,
            "dead": None if self.dead is None else sorted(self.dead),
            "saturated": shares.get("saturated"),
            "zero": shares["zero"],
            "mean": shares["mean"],
        }


def _steps(session: Session) -> list[dict[str, Any]]:
    snapshot = session.snapshot
    if snapshot.loss is None:
        return []
    found = []
    with torch.no_grad():
        for name, parameter in session.model.named_parameters():
            if name in snapshot.gradients:
                change = session.stepper.settings.rate * float(snapshot.gradients[name].norm())
                weight = float(parameter.norm())
                found.append({"parameter": name, "ratio": change / weight if weight else None})
    return found
