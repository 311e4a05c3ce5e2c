"""Which layer of a plan is the first that gives other numbers than torch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from convscope.errors import LoweringError
from convscope.graph import structure
from convscope.graph.untouched import Untouched
from convscope.lowering.lower import recorded
from convscope.lowering.plan import Plan
from convscope.lowering.segments import pack
from convscope.native.branches import every_value, whole_records
from convscope.native.mixed import MixedNetwork, interpret, layer_name
from convscope.native.network import NativeNetwork

_OTHER = 1e-4  # parts of a result's length by which the layer to blame is off, at least


def first(
    network: NativeNetwork | MixedNetwork,
    x: Tensor,
    names: Sequence[str],
    modes: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    seed: int = 0,
) -> str:
    """In words, the first layer whose result differs going forward, else the first going back.

    ``names`` are the results that were found to differ (``trust.answers``); ``modes()`` is entered while torch
    computes.
    """
    told = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    model = network.memory.model
    untouched = Untouched(model)
    plans: list[Plan] = []
    try:
        graph = (
            network.ready().segments.graph if isinstance(network, MixedNetwork) else recorded(model, _shape(network))
        )
        images = x
        if x.dtype == torch.uint8 and network.preprocessing is not None:
            images = network.preprocessing.normalise(x)
        with torch.no_grad(), modes():
            right = interpret(graph, images)
        for part, given in _parts(network, x, right):
            plans.append(part.ready().plan)
            layer = _forward(part, given, _by_layer(right), seed)
            if layer is not None:
                return f"layer {layer!r} ({told})"
    except (
        LoweringError,
        RuntimeError,
        TypeError,
    ):  # the model cannot be taken apart: what differs is told all the same
        return f"the {told}"
    finally:
        untouched.restore()
    if "loss" in names:
        return f"the {told}"
    return _backward(plans, names) or f"the {told}"


def _shape(network: NativeNetwork) -> tuple[int, int, int]:
    return network.input_shape


def _parts(
    network: NativeNetwork | MixedNetwork, x: Tensor, right: Mapping[fx.Node, Any]
) -> list[tuple[NativeNetwork, Tensor]]:
    """The networks on the engine in their order, each with what torch would give it."""
    if isinstance(network, NativeNetwork):
        return [(network, x)]
    networks = network.ready().networks
    return [(part, pack([right[node] for node in step.inputs], step.shape)) for step, part in networks.items()]


def _by_layer(right: Mapping[fx.Node, Any]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for node, result in right.items():
        found.setdefault(layer_name(node), []).extend(structure.tensors(result))
    return found


def _forward(network: NativeNetwork, x: Tensor, right: Mapping[str, list[Tensor]], seed: int) -> str | None:
    """The first layer of the network whose results are not among torch's of that layer."""
    lasts = [list(group)[-1] for _, group in itertools.groupby(whole_records(network), lambda record: record.name)]
    results = every_value(network, x, seed, lasts)
    for record, result in zip(lasts, results, strict=True):
        candidates = [each for each in right.get(record.name, ()) if each.numel() == result.numel()]
        if candidates and not any(_alike(result, each) for each in candidates):
            return record.name
    return None


def _alike(result: Tensor, right: Tensor) -> bool:
    """Whether these are the same numbers, in whatever order they lie."""
    one, other = result.flatten().double(), right.flatten().double()
    size = float(torch.linalg.vector_norm(other))
    return any(
        float(torch.linalg.vector_norm(a - b)) <= _OTHER * size
        for a, b in ((one, other), (one.sort().values, other.sort().values))
    )


def _backward(plans: Sequence[Plan], names: Sequence[str]) -> str | None:
    """The layer nearest to the output whose own gradients or buffers differ."""
    other = {name.removeprefix("gradient of ").removeprefix("buffer ") for name in names}
    for plan in reversed(plans):
        for record in reversed(plan.records):
            own = [name for name in (*record.parameters.values(), *record.state.values()) if name in other]
            if own:
                kind = "buffer" if own[0] in record.state.values() else "gradient of"
                return f"layer {record.name!r} (its {kind} {own[0]})"
    return None
