"""A model's graph as the explorer shows it: its calls, who reads whom, the shapes, and what can be explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from convscope.explorer.arithmetic import FAMILIES, Layer, family_of
from convscope.explorer.arithmetic.windows import window_of
from convscope.explorer.cuts import joined, parts_of
from convscope.graph.calls import Step, TensorLike, walk
from convscope.graph.capture import capture
from convscope.graph.examples import example
from convscope.inspect import Trace
from convscope.inspect import trace as run_trace
from convscope.inspect.trace import LayerTrace
from convscope.layers import RecurrentLayers
from convscope.rules.regions import RoIAlign, RoIPool
from convscope.rules.tape import Tape, attribute

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


class _Ways:
    """Who reads whom, call by call in forward order; what is not shown passes on what it reads."""

    def __init__(self, input_name: str) -> None:
        self.shown: dict[str, tuple[str, ...]] = {input_name: (INPUT,)}  # call → the shown calls that stand for it
        self.visible = {input_name}
        self.all: list[tuple[str, str, int | None]] = []  # (source, reader, number of the reader's input or None)

    def above(self, step: Step) -> tuple[str, ...]:
        return tuple(source for item in step.inputs for source in self.shown.get(item.source, ()))

    def pass_on(self, step: Step) -> None:
        self.shown[step.name] = tuple(dict.fromkeys(self.above(step)))

    def add(self, step: Step) -> None:
        for place, item in enumerate(step.inputs):
            number = place if item.source in self.visible else None
            self.all += [(source, step.name, number) for source in self.shown.get(item.source, ())]
        self.shown[step.name] = (step.name,)
        self.visible.add(step.name)

    def direct(self, step: Step) -> bool:
        """Whether each input of the call is one shown call's output, or stands for one."""
        return all(len(self.shown.get(item.source, ())) == 1 for item in step.inputs)


class Network:
    """The calls in forward order. Built once for a model and an input shape; values come with each ``Layer``.

    ``nodes`` are the calls shown, ``readers`` who reads each directly, ``hidden`` which are also read otherwise,
    through calls that are not shown, such as a mean over everything.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[int]) -> None:
        self.model = model
        self.input_shape = tuple(input_shape)
        self.graph = capture(model, example(model, (1, *self.input_shape)))
        self._constant = _constant(self.graph)
        steps, traced = walk(model, self.input_shape), self._traced()
        self._parts = parts_of(traced.ran)
        records = self._shown(traced)
        ways = _Ways(steps.input_name)
        self.nodes: dict[str, Node] = {}
        for each in steps:
            part = self._parts.get(each.name)
            step = each if part is None else part.alone(each, steps[part.cut])
            record = records.get(step.name)
            if record is None:
                ways.pass_on(step)
            else:
                self.nodes[step.name] = _node(step, record, ways.above(step), ways.direct(step))
                ways.add(step)
        ends = [name for item in steps.output_names for name in ways.shown.get(item, ())]
        self.output = ends[0] if ends else next(reversed(self.nodes))
        self.readers: dict[str, list[tuple[str, int]]] = {name: [] for name in (INPUT, *self.nodes)}
        for source, reader, number in ways.all:
            if number is not None:
                self.readers[source].append((reader, number))
        self.hidden = {source for source, _, number in ways.all if number is None}

    @torch.no_grad()
    def _traced(self) -> Trace:
        """The calls as they run on zeros."""
        reference = next((item for item in self.model.parameters() if item.is_floating_point()), torch.zeros(()))
        return run_trace(self.graph, torch.zeros((1, *self.input_shape), dtype=reference.dtype))

    def _shown(self, traced: Trace) -> dict[str, LayerTrace]:
        """The calls that can be shown."""
        return {
            layer.name: layer
            for layer in joined(traced, self._parts)
            if isinstance(layer.y, torch.Tensor) and layer.y.ndim and layer.y.shape[0] == 1
        }

    def records(self, traced: Trace) -> list[LayerTrace]:
        """The calls of a trace of this network that are shown."""
        return [record for record in joined(traced, self._parts) if record.name in self.nodes]

    def held(self, ran: Tape) -> dict[str, torch.Tensor]:
        """What functions of torch are given beside values of the picture, by the names of their calls: parameters,
        constants, and what the network computes from these alone, such as normed weights."""
        found = {node.name: attribute(self.graph, node) for node in self._constant if node.op == "get_attr"}
        found |= {step.node.name: step.output for step in ran.steps if step.node in self._constant}
        return {name: value.detach() for name, value in found.items() if isinstance(value, torch.Tensor)}

    def layer(self, record: LayerTrace, upstream: torch.Tensor | None, held: Mapping[str, torch.Tensor]) -> Layer:
        """A call with the values of one trace; ``upstream`` is ∂J/∂y, ``held`` what it holds beside. δ = ∂J/∂u
        with u = x for every activation."""
        node = self.nodes[record.name]
        u, delta = record.u, record.delta
        if node.family == "activation" and u is record.y:
            u, delta = record.inputs[0], record.grad_x[0] if record.grad_x else None
        elif not FAMILIES[node.family].slope and not _usable(u, record):
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
            held=held,
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


def _constant(graph: fx.GraphModule) -> set[fx.Node]:
    """The calls that no input of the model has a part in."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op != "placeholder" and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def _node(step: Step, record: LayerTrace, above: tuple[str, ...], direct: bool) -> Node:
    """A call as it is shown; its arithmetic can be written out where every input is one tensor that is shown."""
    regions = isinstance(record.rule, RoIPool | RoIAlign) and len(above) == 1  # the box is a number of the model's own
    plain = regions or (
        direct
        and step.output_shape == tuple(record.y.shape)
        and all(item.ndim and item.shape[0] == 1 for item in record.inputs)
        and (
            len(record.inputs) == len(step.inputs) or isinstance(step.module, RecurrentLayers)
        )  # whose rule adds lengths
        and _positional(step.arguments)
    )
    family = family_of(record.rule, step.module, record.type, record.inputs[0].ndim, len(above)) if plain else "other"
    shape = tuple(record.y.shape[1:])
    return Node(step.name, record.type, family, step.module, step.function, step.arguments, step.keywords, above, shape)


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
    return {"kind": FAMILIES[node.family].maps}


def _positional(arguments: tuple[Any, ...]) -> bool:
    """Whether the tensors of a call can be put back in their order: directly, or as a list of tensors."""
    return any(isinstance(item, TensorLike | tuple | list) for item in arguments)
