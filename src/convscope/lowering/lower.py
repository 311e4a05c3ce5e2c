"""From a torch model to the engine's plan.

The model's graph is walked once with stand-ins for its tensors: a ``Value`` has a number and a shape, and what the
model works out from shapes (``x.view(x.size(0), -1)``) is worked out on the way. Each layer finds its lowering by its
type, function or method name; what has none is refused by name.
"""

from __future__ import annotations

import collections
import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from convscope.errors import ArgumentError, LoweringError
from convscope.graph import memory, sizes
from convscope.graph.capture import FailedCallError, HiddenStateError, facts, find_module, record
from convscope.graph.examples import example, needed_inputs
from convscope.graph.heap import give_back
from convscope.graph.heard import is_in_place
from convscope.graph.structure import is_record, only_puts_together, sequence
from convscope.layers import AuxiliaryOutputs, Loss
from convscope.lowering import operators  # fills the tables
from convscope.lowering.builder import BATCH, FUNCTIONS, METHODS, MODULES, Builder
from convscope.lowering.folding import fold_batch_norms
from convscope.lowering.objective import Objective, objective
from convscope.lowering.operators.reductions import Extremum
from convscope.lowering.plan import Output, Plan
from convscope.lowering.values import Value

_PLAIN_MODULES = ("builtins", "_operator", "math")
_MANY = 1 << 40
_IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}


def lower(
    model: nn.Module,
    input_shape: Sequence[int],
    loss: str | Loss | nn.Module | Objective | None = None,
    *,
    fold: bool = False,
    graph: fx.GraphModule | None = None,
) -> Plan:
    """The plan of ``model`` for images of ``input_shape`` (channels, height, width), in its modules' modes.

    ``graph`` is a record of a call on such images (``graph.capture``); None: of one on images made up for it.
    With ``loss`` the plan ends in it, on the model's output; with ``AuxiliaryOutputs`` also on the auxiliary ones with
    their weight. ``fold``: batch normalisations are folded into the layers before them where that is possible
    (``fold_batch_norms``), for evaluation without gradients. Raises LoweringError naming the layer that the engine
    cannot run and why, and ArgumentError for an input shape that is none.
    """
    channels, height, width = checked_shape(input_shape)
    if graph is None:
        graph = recorded(model, (channels, height, width))
    builder = Builder(model, (channels, height, width))
    structure, outputs = Walk(graph, builder).run()
    if builder.training and builder.evaluates:
        builder = Builder(model, (channels, height, width), mixed=True)
        structure, outputs = Walk(graph, builder).run()
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


def recorded(model: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    """A record of a call on images of ``shape``: two of them where layers may use the batch's statistics."""
    needed = needed_inputs(model)
    if len(needed) > 1:
        raise LoweringError(needed[1], "is a second input, the engine takes one image tensor")
    images = 2 if any(module.training for module in model.modules()) else 1
    try:
        # A write in place where autograd is off is one thing for what requires a gradient, another for what does not.
        return record(model, (example(model, (images, *shape)).requires_grad_(),))
    except HiddenStateError as hidden:
        raise LoweringError(hidden.path, "is an iterator, a file or a queue, which every call moves on") from None
    except FailedCallError as failed:
        problem = f"{type(failed.error).__name__}: {failed.error}"
        raise LoweringError(failed.path or "model", f"the model itself fails here ({problem})") from failed.error
    finally:
        give_back()


def refuse_effects(graph: fx.GraphModule) -> None:
    """LoweringError where the model does more than to compute a result: what it changes of itself or its input."""
    changes = facts(graph).changes
    if changes:
        raise LoweringError(changes[0], "the model changes this in every call, which the engine would not do")
    for node in graph.graph.nodes:
        if node.target is memory.update:
            name = str(node.all_input_nodes[0].target)
            raise LoweringError(name, "the model changes this tensor itself, which the engine would not do")


def works_in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether ``node`` writes over its first argument. Nobody reads the old value under another name later: a recorded
    graph names what such memory holds afterwards by the node itself."""
    if node.op == "call_module":
        return any(getattr(each, "inplace", False) for each in graph.get_submodule(str(node.target)).modules())
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        return node.target in _IN_PLACE or name.endswith("_") or is_in_place(node.target, node.args, node.kwargs)
    return False


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

    def __init__(self, graph: fx.GraphModule, builder: Builder) -> None:
        self.builder = builder
        self.graph = graph
        self.nodes = list(graph.graph.nodes)
        self.found: dict[fx.Node, Any] = {}

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
        """What the returned value depends on. What the model changes beside it is refused."""
        refuse_effects(self.graph)
        needed: set[fx.Node] = set()
        open_nodes = [self.nodes[-1], *(node for node in self.nodes if node.target is sizes.expect)]
        while open_nodes:
            node = open_nodes.pop()
            if node not in needed:
                needed.add(node)
                open_nodes += node.all_input_nodes
        for node in self.nodes:
            module = find_module(self.graph, node)
            if node not in needed and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise LoweringError(str(node.target), "updates its running statistics, but its output is not used")
        return needed

    def stand_for(self, node: fx.Node, value: Value) -> None:
        """``value`` is what ``node``, which this walk does not come by, puts out."""
        self.found[node] = value

    def forget(self, node: fx.Node) -> None:
        """``node`` is not this walk's."""
        self.found.pop(node, None)

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

    def _call(self, node: fx.Node) -> Any:
        builder = self.builder
        args = self._argument(node.args)
        kwargs = self._argument(node.kwargs)
        if node.target is sizes.expect:
            return self._expect(*args)
        if node.op == "call_module":
            module = find_module(self.graph, node)
            assert module is not None
            self._check_module(module)
            lowering = operators.activations.elementwise(module, None) or MODULES.get(type(module))
            if lowering is None:
                kind = type(module)
                known = kind.__module__.startswith(("torch.nn.", "convscope.layers"))
                reason = facts(self.graph).opaque.get(node.name)
                unseen = "" if known or reason is None else f", and nothing can be seen of it: {reason}"
                builder.refuse(f"the engine has no {kind.__name__}{unseen}")
            args = (module, *args)
        elif node.op == "call_method":
            lowering = operators.activations.elementwise(None, node.target) or METHODS.get(str(node.target))
            if lowering is None:
                builder.refuse(f"the engine has no tensor method {node.target!r}")
        elif _is_nest(node.target):
            return node.target(*args, **kwargs)  # type: ignore[operator]
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

    def _expect(self, left: Any, comparison: str, right: Any, outcome: bool) -> None:
        """A decision that the model took by sizes: it must be the same for any number of images."""
        if (left is BATCH) == (right is BATCH):
            return
        for images in (1, 2, left, right, _MANY):
            given = images if isinstance(images, int) and images > 0 else 1
            pair = (given if each is BATCH else each for each in (left, right))
            if bool(getattr(operator, comparison)(*pair)) is not outcome:
                self.builder.refuse("goes another way for another number of images, which a plan leaves open")

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

    def _argument(self, argument: Any) -> Any:
        """An argument with what stands for its nodes; unlike fx.map_arg it keeps tuples and slices plain."""
        if isinstance(argument, fx.Node):
            return self.found[argument]
        if isinstance(argument, AuxiliaryOutputs):
            return AuxiliaryOutputs(*(self._argument(each) for each in argument))
        if isinstance(argument, tuple | list):
            return sequence(argument, [self._argument(each) for each in argument])
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
            return sequence(value, [self._structure(each, outputs) for each in value])
        if isinstance(value, dict):
            pairs = {key: self._structure(each, outputs) for key, each in value.items()}
            return pairs if type(value) is dict else type(value)(pairs)
        if is_record(value) and _is_nest(type(value)):
            return type(value)(**{name: self._structure(each, outputs) for name, each in _fields(value).items()})
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
        return sequence(structure, [restore(each, tensors) for each in structure])
    if isinstance(structure, dict):
        pairs = {key: restore(each, tensors) for key, each in structure.items()}
        return pairs if type(structure) is dict else type(structure)(pairs)
    if is_record(structure):
        return type(structure)(**{name: restore(each, tensors) for name, each in _fields(structure).items()})
    return structure


def _is_nest(target: Any) -> bool:
    """Whether calling ``target`` only puts its arguments together: an OrderedDict's constructor, or that of a dataclass
    that does nothing of its own."""
    if target is collections.OrderedDict:
        return True
    if not isinstance(target, type) or not dataclasses.is_dataclass(target):
        return False
    return only_puts_together(target) and all(each.init for each in dataclasses.fields(target))


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


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
