"""From a torch model to the engine's plan.

The model's graph is walked once with stand-ins for its tensors: a ``Value`` has a number and a shape, and what the
model works out from shapes (``x.view(x.size(0), -1)``) is worked out on the way. Each layer finds its lowering by its
type, function or method name; what has none is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from convscope.errors import ArgumentError, LoweringError
from convscope.graph.capture import capture, find_module
from convscope.layers import AuxiliaryOutputs, Loss
from convscope.lowering import operators  # fills the tables
from convscope.lowering.builder import BATCH, FUNCTIONS, METHODS, MODULES, Builder
from convscope.lowering.folding import fold_batch_norms
from convscope.lowering.objective import Objective, objective
from convscope.lowering.operators.reductions import Extremum
from convscope.lowering.plan import Output, Plan
from convscope.lowering.values import Value

# The result shares its memory with the first argument, so a change in place of one changes the other.
_VIEWS = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "float", "to", "type_as", "chunk",
    "split", "unbind", "select", "narrow", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis",
    "expand", "expand_as", "view_as", "reshape_as",
}  # fmt: skip
_VIEW_FUNCTIONS = {operator.getitem} | {getattr(torch, name) for name in _VIEWS if hasattr(torch, name)}
_IN_PLACE_OPERATORS = {operator.iadd, operator.isub, operator.imul, operator.itruediv}
_PLAIN_MODULES = ("builtins", "_operator", "math")


def lower(
    model: nn.Module,
    input_shape: Sequence[int],
    loss: str | Loss | nn.Module | Objective | None = None,
    *,
    fold: bool = False,
) -> Plan:
    """The plan of ``model`` for images of ``input_shape`` (channels, height, width), in its modules' modes.

    With ``loss`` the plan ends in it, on the model's output; with ``AuxiliaryOutputs`` also on the auxiliary ones with
    their weight. ``fold``: batch normalisations are folded into the layers before them where that is possible
    (``fold_batch_norms``), for evaluation without gradients. Raises LoweringError naming the layer that the engine
    cannot run and why, and ArgumentError for an input shape that is none.
    """
    channels, height, width = checked_shape(input_shape)
    builder = Builder(model, (channels, height, width))
    structure, outputs = Walk(model, builder).run()
    if builder.training and builder.evaluates:
        builder = Builder(model, (channels, height, width), mixed=True)
        structure, outputs = Walk(model, builder).run()
    if loss is not None:
        goal = loss if isinstance(loss, Objective) else objective(loss, model)
        _add_losses(builder, goal, structure, outputs)
    plan = plan_of(builder, structure, outputs)
    return fold_batch_norms(plan, model) if fold else plan


def plan_of(builder: Builder, structure: Any, outputs: Sequence[Value]) -> Plan:
    """What ``builder`` has gathered, with what is returned."""
    return Plan(
        input_shape=builder.image.shape,
        records=tuple(builder.records),
        outputs=tuple(Output(each.number, each.sizes) for each in outputs),
        structure=structure,
        constants=tuple(builder.constants),
        scratch=dict(builder.scratch),
        training=builder.training,
        counters=tuple(builder.counters),
        needs_several=builder.needs_several,
    )


def checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width), else ArgumentError."""
    sides = tuple(input_shape)
    if len(sides) != 3 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides):
        raise ArgumentError("input_shape", sides, "three integers ≥ 1: channels, height, width")
    return sides


def _add_losses(builder: Builder, goal: Objective, structure: Any, outputs: list[Value]) -> None:
    builder.layer = "loss"
    weights = {0: 1.0}
    if isinstance(structure, AuxiliaryOutputs):
        auxiliary: Any = structure.auxiliary
        weights |= {index: float(structure.weight) for index in auxiliary}
    elif structure != 0:
        builder.refuse("the model returns several values, the engine takes the loss of one")
    for index, weight in weights.items():
        source = builder.features(outputs[index])
        builder.loss(goal.kind, source, {**goal.attributes_for(source.size), "weight": weight})


class Walk:
    """One pass over the graph. ``found`` holds what stands for the result of each node."""

    def __init__(self, model: nn.Module, builder: Builder) -> None:
        self.builder = builder
        self.graph = capture(model)
        self.nodes = list(self.graph.graph.nodes)
        self.found: dict[fx.Node, Any] = {}
        self.memory: dict[fx.Node, fx.Node] = {}  # the first node with the same memory
        self.place = {node: index for index, node in enumerate(self.nodes)}

    def run(self) -> tuple[Any, list[Value]]:
        """(the returned structure with an index for each tensor, the values at these indices)."""
        needed = self._needed()
        for node in self.nodes:
            if node in needed:
                self.step(node)
        last = self.nodes[-1]
        self.builder.layer = "output"
        outputs: list[Value] = []
        structure = self._structure(self._argument(last.args[0]), outputs)
        if not outputs:
            self.builder.refuse("the model returns no tensor")
        return structure, outputs

    def _needed(self) -> set[fx.Node]:
        """What the returned value depends on, and whatever works in place on such a value."""
        needed: set[fx.Node] = set()
        changes = [(node, self.origin(node)) for node in self.nodes if self.in_place(node)]
        open_nodes = [self.nodes[-1]]
        while open_nodes:
            node = open_nodes.pop()
            if node not in needed:
                needed.add(node)
                open_nodes += node.all_input_nodes
                open_nodes += [change for change, origin in changes if origin is node]
        module_of = {node: find_module(self.graph, node) for node in self.nodes}
        for node, module in module_of.items():
            if node not in needed and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise LoweringError(str(node.target), "updates its running statistics, but its output is not used")
        return needed

    def stand_for(self, node: fx.Node, value: Value) -> None:
        """``value`` is what ``node``, which this walk does not come by, puts out."""
        self.found[node] = value
        self.memory[node] = node

    def forget(self, node: fx.Node) -> None:
        """``node`` is not this walk's."""
        self.found.pop(node, None)
        self.memory.pop(node, None)

    def returned(self, nodes: Sequence[fx.Node]) -> tuple[Any, list[Value]]:
        """(a tuple of their results with an index for each tensor, the values at these indices)."""
        outputs: list[Value] = []
        self.builder.layer = "output"
        return tuple(self._structure(self.found[node], outputs) for node in nodes), outputs

    def name(self, node: fx.Node) -> None:
        """Refusals from here on are of ``node``."""
        self.builder.layer = str(node.target) if node.op == "call_module" else node.name

    def step(self, node: fx.Node) -> None:
        """Find what stands for the result of ``node``, those of its arguments being found."""
        builder = self.builder
        self.name(node)
        self.memory[node] = node
        if node.op == "output":
            return
        if node.op == "placeholder":
            if any(isinstance(each, Value) and each.number == 0 for each in self.found.values()):
                if node.args:  # an optional input takes its default
                    self.found[node] = node.args[0]
                    return
                builder.refuse("is a second input, the engine takes one image tensor")
            self.found[node] = builder.image
        elif node.op == "get_attr":
            self.found[node] = _attribute(self.graph, str(node.target))
        else:
            self.found[node] = self._call(node)
            self._note_memory(node)

    def _call(self, node: fx.Node) -> Any:
        builder = self.builder
        args = self._argument(node.args)
        kwargs = self._argument(node.kwargs)
        if node.op == "call_module":
            module = find_module(self.graph, node)
            assert module is not None
            self._check_module(module)
            lowering = operators.activations.elementwise(module, None) or MODULES.get(type(module))
            if lowering is None:
                kind = type(module)
                known = kind.__module__.startswith(("torch.nn.", "convscope.layers"))
                traced = "" if known else ", and torch.fx cannot look into it"
                builder.refuse(f"the engine has no {kind.__name__}{traced}")
            args = (module, *args)
        elif node.op == "call_method":
            lowering = operators.activations.elementwise(None, node.target) or METHODS.get(str(node.target))
            if lowering is None:
                builder.refuse(f"the engine has no tensor method {node.target!r}")
        else:
            if not _has_value((args, kwargs)) and getattr(node.target, "__module__", "") in _PLAIN_MODULES:
                return self._plain(node, args, kwargs)
            lowering = operators.activations.elementwise(None, node.target) or FUNCTIONS.get(node.target)
            if lowering is None:
                builder.refuse(f"the engine has no function {_function_name(node.target)}")
        try:
            return lowering(builder, *args, **kwargs)
        except TypeError as problem:
            builder.refuse(f"called in a way the engine does not know: {problem}")

    def _plain(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Arithmetic on numbers, worked out here."""
        try:
            return node.target(*args, **kwargs)  # type: ignore[operator]
        except TypeError:
            self.builder.refuse("computes with the number of images, which a plan leaves open")

    def _check_module(self, module: nn.Module) -> None:
        """What runs beside a module's own forward would be left out."""
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            if getattr(module, hooks):
                self.builder.refuse(f"has {hooks.strip('_').replace('_', ' ')}, which the engine would not call")
        if nn.utils.parametrize.is_parametrized(module):
            self.builder.refuse("has a parametrisation, the engine reads parameters as they are")

    def origin(self, node: fx.Node) -> fx.Node:
        """The node that made the memory which ``node`` is a view of, or works on in place."""
        while node.args and isinstance(node.args[0], fx.Node) and (self.in_place(node) or self._is_view(node)):
            node = node.args[0]
        return node

    def _is_view(self, node: fx.Node) -> bool:
        return (
            (node.op == "call_method" and str(node.target) in _VIEWS)
            or (node.op == "call_function" and node.target in _VIEW_FUNCTIONS)
            or (node.op == "call_module" and isinstance(find_module(self.graph, node), nn.Flatten | nn.Unflatten))
        )

    def in_place(self, node: fx.Node) -> bool:
        """Whether the node changes its first argument."""
        if node.op == "call_module":
            module = find_module(self.graph, node)
            return bool(getattr(module, "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        if node.op == "call_function":
            name = getattr(node.target, "__name__", "")
            return node.target in _IN_PLACE_OPERATORS or name.endswith("_") or bool(node.kwargs.get("inplace", False))
        return False

    def _note_memory(self, node: fx.Node) -> None:
        """Follow views, and let later readers of a value changed in place see the change."""
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if source is None or not isinstance(self.found[source], Value | tuple):
            return
        shares = self.found[node] is self.found[source] or self._is_view(node)
        if not self.in_place(node):
            if shares:
                self.memory[node] = self.memory[source]
            return
        root = self.memory[source]
        for other, its_root in list(self.memory.items()):
            if its_root is root and other is not node and any(self.place[u] > self.place[node] for u in other.users):
                if other is not source and self.found[other] != self.found[source]:
                    self.builder.refuse(f"changes memory in place that {other.name!r} shares and that is read later")
                self.found[other] = self.found[node]
        self.memory[node] = root

    def _argument(self, argument: Any) -> Any:
        """An argument with what stands for its nodes; unlike fx.map_arg it keeps tuples and slices plain."""
        if isinstance(argument, fx.Node):
            return self.found[argument]
        if isinstance(argument, AuxiliaryOutputs):
            return AuxiliaryOutputs(*(self._argument(each) for each in argument))
        if isinstance(argument, tuple):
            return tuple(self._argument(each) for each in argument)
        if isinstance(argument, list):
            return [self._argument(each) for each in argument]
        if isinstance(argument, dict):
            return {key: self._argument(each) for key, each in argument.items()}
        if isinstance(argument, slice):
            return slice(*(self._argument(each) for each in (argument.start, argument.stop, argument.step)))
        return argument

    def _structure(self, value: Any, outputs: list[Value]) -> Any:
        if isinstance(value, Value):
            value = self.builder.returned(value, outputs)
            outputs.append(value)
            return len(outputs) - 1
        if isinstance(value, Extremum):
            self.builder.refuse("the model returns the places of maxima, which the engine does not give away")
        if isinstance(value, AuxiliaryOutputs):
            logits = self._structure(value.logits, outputs)
            auxiliary = tuple(self._structure(each, outputs) for each in value.auxiliary)
            return AuxiliaryOutputs(logits, auxiliary, value.weight)
        if isinstance(value, tuple | list):
            return type(value)([self._structure(each, outputs) for each in value])
        if isinstance(value, dict):
            return {key: self._structure(each, outputs) for key, each in value.items()}
        if value is None:
            return None
        return self.builder.refuse(f"the model returns a {type(value).__name__}, the engine returns tensors")


def restore(structure: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """The model's return value: ``structure`` with tensors in the places of indices."""
    if isinstance(structure, int):
        return tensors[structure]
    if isinstance(structure, AuxiliaryOutputs):
        logits, auxiliary, weight = structure
        return AuxiliaryOutputs(restore(logits, tensors), restore(auxiliary, tensors), weight)
    if isinstance(structure, tuple | list):
        return type(structure)([restore(each, tensors) for each in structure])
    if isinstance(structure, dict):
        return {key: restore(each, tensors) for key, each in structure.items()}
    return structure


def _has_value(arguments: Any) -> bool:
    if isinstance(arguments, Value):
        return True
    if isinstance(arguments, dict):
        return any(map(_has_value, arguments.values()))
    return isinstance(arguments, tuple | list) and any(map(_has_value, arguments))


def _attribute(graph: fx.GraphModule, target: str) -> Any:
    owner: Any = graph
    for part in target.split("."):
        owner = getattr(owner, part)
    return owner


def _function_name(function: Any) -> str:
    module = getattr(function, "__module__", None) or "torch"
    return f"{module}.{getattr(function, '__name__', function)}"


__all__ = ["BATCH", "checked_shape", "lower", "restore"]
