"""Two checkpoints, or two pictures, beside each other: how far every layer's maps and every parameter are apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError, ConvscopeError
from convscope.explorer.network import Network
from convscope.graph.capture import capture
from convscope.inspect import trace


@dataclasses.dataclass(frozen=True)
class Beside:
    """Another model of the same layers."""

    name: str
    model: nn.Module
    graph: fx.GraphModule


@dataclasses.dataclass(frozen=True)
class Apart:
    """One layer (or parameter): ``relative`` ‖other − shown‖/‖shown‖, None where only the shown one is zero;
    ``largest`` |other − shown| and the map (or first index) where it is."""

    name: str
    relative: float | None
    largest: float
    map: int


def placed_beside(network: Network, model: nn.Module, name: str) -> Beside:
    """ArgumentError where the model does not have the shown network's layers and shapes."""
    found = Beside(name, model.eval(), capture(model))
    own = {key: tuple(node.shape) for key, node in network.nodes.items()}
    reference = next((item for item in network.model.parameters() if item.is_floating_point()), torch.zeros(()))
    try:
        outputs = outputs_of(found.graph, torch.zeros((1, *network.input_shape), dtype=reference.dtype))
    except ConvscopeError as error:
        raise ArgumentError("beside", f"{name}: {error}", "the shown model's layers") from error
    for key, shape in own.items():
        other = tuple(outputs[key].shape[1:]) if key in outputs else None
        if other != shape:
            has = "no such layer" if other is None else f"{key} of {other}"
            raise ArgumentError("beside", f"{name}: {has}", f"the shown model's layers: {key} of {shape}")
    return found


@torch.no_grad()
def outputs_of(graph: fx.GraphModule, x: Tensor) -> dict[str, Tensor]:
    """The output of every call, by its name."""
    return {record.name: record.y for record in trace(graph, x) if isinstance(record.y, Tensor)}


def apart(shown: dict[str, Tensor], other: dict[str, Tensor], names: Sequence[str]) -> list[Apart]:
    """Layer by layer; values (1, maps, …)."""
    return [_apart(name, shown[name][0], other[name][0]) for name in names]


def parameters_apart(shown: nn.Module, other: nn.Module) -> list[Apart]:
    """Parameter by parameter, by the names that both have."""
    theirs = dict(other.named_parameters())
    return [
        _apart(name, parameter.detach(), theirs[name].detach())
        for name, parameter in shown.named_parameters()
        if name in theirs and theirs[name].shape == parameter.shape
    ]


def _apart(name: str, shown: Tensor, other: Tensor) -> Apart:
    difference = (other.double() - shown.double()).abs()
    size, own = float(difference.square().sum().sqrt()), float(shown.double().square().sum().sqrt())
    relative = 0.0 if size == 0 else size / own if own else None
    flat = difference.reshape(difference.shape[0], -1).amax(1) if difference.ndim else difference.reshape(1)
    return Apart(name, relative, float(flat.max()), int(flat.argmax()))


_LISTED = 8


@torch.no_grad()
def differing(what: str, shown: Tensor, other: Tensor) -> dict[str, Any]:
    """Of the parts of two tensors (maps, units, kernels, rows of a matrix) how many differ, and ``_LISTED`` of them,
    the largest |other − shown| first."""
    depth = max(1, shown.ndim - 2)
    parts = shown.shape[:depth]
    size = (other - shown).abs().reshape(*parts, -1).amax(-1).flatten()  # (parts)
    count = int((size != 0).sum())
    order = size.argsort(descending=True, stable=True)[: min(_LISTED, count)]
    found = [
        {"index": [int(at) for at in torch.unravel_index(place, parts)], "largest": float(size[place])}
        for place in order
    ]
    return {"what": what, "all": len(size), "count": count, "parts": found}


def as_values(rows: Sequence[Apart]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(row) for row in rows]
