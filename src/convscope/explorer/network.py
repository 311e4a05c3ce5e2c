"""A model's graph as the explorer shows it: its calls, who reads whom, the shapes, and what can be explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from convscope.explorer.arithmetic import Layer, family_of
from convscope.explorer.arithmetic.windows import window_of
from convscope.graph.calls import TensorLike, walk
from convscope.graph.capture import capture
from convscope.graph.examples import example
from convscope.inspect import trace as run_trace
from convscope.inspect.trace import LayerTrace

INPUT = "input"


@dataclasses.dataclass(frozen=True)
class Node:
    """One call. ``sources`` are the names of the shown calls (or ``INPUT``) whose outputs it reads, in order."""

    name: str
    kind: str
    family: str
    module: nn.Module | None
    function: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    sources: tuple[str, ...]
    shape: tuple[int, ...]


class Network:
    """The calls in forward order. Built once for a model and an input shape; values come with each ``Layer``."""

    def __init__(self, model: nn.Module, input_shape: Sequence[int]) -> None:
        self.model = model
        self.input_shape = tuple(input_shape)
        self.graph = capture(model, example(model, (1, *self.input_shape)))
        steps = walk(model, self.input_shape)
        with torch.no_grad():
            reference = next((item for item in model.parameters() if item.is_floating_point()), torch.zeros(()))
            shown = {
                layer.name: layer
                for layer in run_trace(self.graph, torch.zeros((1, *self.input_shape), dtype=reference.dtype))
                if isinstance(layer.y, torch.Tensor) and layer.y.ndim and layer.y.shape[0] == 1
            }
        self.nodes: dict[str, Node] = {}
        """The calls shown; ``readers`` says who reads each directly, ``hidden`` which are also read otherwise."""
        alias: dict[str, tuple[str, ...]] = {steps.input_name: (INPUT,)}
        visible = {steps.input_name}
        ways: list[tuple[str, str, int | None]] = []  # (source, reader, number of the reader's input or None)
        for step in steps:
            name = step.name
            above = tuple(source for item in step.inputs for source in alias.get(item.source, ()))
            if name not in shown:
                alias[step.name] = tuple(dict.fromkeys(above))
                continue
            alias[step.name] = (name,)
            visible.add(step.name)
            for place, item in enumerate(step.inputs):
                seen = item.source in visible
                ways += [(source, name, place if seen else None) for source in alias.get(item.source, ())]
            kind = shown[name].type
            direct = all(len(alias.get(item.source, ())) == 1 for item in step.inputs)
            known = isinstance(step.output_shape, tuple) and step.output_shape == tuple(shown[name].y.shape)
            batched = all(item.ndim and item.shape[0] == 1 for item in shown[name].inputs)
            plain = (
                batched
                and direct
                and known
                and len(shown[name].inputs) == len(step.inputs)
                and _positional(step.arguments)
            )
            family = family_of(shown[name].rule, step.module, kind, len(above)) if plain else "other"
            shape = tuple(shown[name].y.shape[1:])
            self.nodes[name] = Node(
                name, kind, family, step.module, step.function, step.arguments, step.keywords, above, shape
            )
        ends = [name for item in steps.output_names for name in alias.get(item, ())]
        self.output = ends[0] if ends else next(reversed(self.nodes))
        self.readers: dict[str, list[tuple[str, int]]] = {name: [] for name in (INPUT, *self.nodes)}
        self.hidden: set[str] = set()
        for source, reader, number in ways:
            if number is None:  # through a call that is not shown, such as a mean over everything
                self.hidden.add(source)
            else:
                self.readers[source].append((reader, number))

    def layer(self, record: LayerTrace, upstream: torch.Tensor | None) -> Layer:
        """A call with the values of one trace; ``upstream`` is ∂J/∂y. δ = ∂J/∂u with u = x for every activation."""
        node = self.nodes[record.name]
        u, delta = record.u, record.delta
        if node.family == "activation" and u is record.y:
            u, delta = record.inputs[0], record.grad_x[0] if record.grad_x else None
        elif node.family not in ("activation", "subsample") and not _usable(u, record):
            u, delta = record.y, upstream
        return Layer(
            name=node.name,
            kind=node.kind,
            family=node.family,
            rule=record.rule,
            module=node.module,
            function=node.function,
            arguments=node.arguments,
            keywords=node.keywords,
            sources=node.sources,
            inputs=record.inputs,
            u=u,
            y=record.y,
            delta=delta,
            upstream=upstream,
            gradients=record.gradients,
        )

    def activation_after(self, name: str) -> str | None:
        """The activation that alone reads ``name``."""
        following = self.readers[name]
        if len(following) == 1 and self.nodes[following[0][0]].family == "activation":
            return following[0][0]
        return None

    def describe(self, layers: Mapping[str, Layer]) -> list[dict[str, Any]]:
        """Every call as the page needs it; values are not part of it."""
        described = []
        for node in self.nodes.values():
            window = window_of(layers[node.name])
            described.append(
                {
                    "name": node.name,
                    "kind": node.kind,
                    "family": node.family,
                    "sources": list(node.sources),
                    "shape": list(node.shape),
                    "parameters": {name: list(parameter.shape) for name, parameter in named_parameters(node.module)},
                    "text": str(node.module) if node.module is not None else f"{node.kind}()",
                    "window": window.describe() if window is not None else None,
                    "connections": connections(node),
                    "activation_after": self.activation_after(node.name),
                }
            )
        return described


def _usable(u: torch.Tensor, record: LayerTrace) -> bool:
    """Whether u is the layer's output, or its input."""
    x = record.inputs[0]
    return u is record.y or (u.shape == x.shape and torch.equal(u, x))


def named_parameters(module: nn.Module | None) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters()) if module is not None else []


def connections(node: Node) -> dict[str, Any]:
    """Which maps of the source feed a map: "all", "same", "groups" with their number, or a table's own lists."""
    if node.family == "conv":
        table = getattr(node.module, "table", None)
        if isinstance(table, torch.Tensor):
            return {"kind": "table", "maps": [row.nonzero().flatten().tolist() for row in table]}
        groups = int(getattr(node.module, "groups", 1))
        return {"kind": "groups", "groups": groups} if groups > 1 else {"kind": "all"}
    if node.family in ("linear", "rbf", "softmax", "other"):
        return {"kind": "all"}
    if node.family == "reshape":
        return {"kind": "reshape"}
    return {"kind": "concat" if node.family == "concat" else "same"}


def _positional(arguments: tuple[Any, ...]) -> bool:
    """Whether the tensors of a call can be put back in their order: directly, or as a list of tensors."""
    return any(isinstance(item, TensorLike | tuple | list) for item in arguments)
