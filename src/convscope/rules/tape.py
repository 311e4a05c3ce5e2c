"""Running a whole model by the rules: forward along its graph, then the sensitivities back against it."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError, ConvscopeError
from convscope.graph import capture as graphs
from convscope.graph import memory, sizes, structure
from convscope.graph.calls import Names
from convscope.rules import base, finding
from convscope.rules.base import Applied, Gradients, Rule, Saved
from convscope.rules.lazy_gradients import Later
from convscope.rules.local_autograd import LocalAutograd
from convscope.rules.structures import in_structure


class Slot(NamedTuple):
    """One tensor that a node put out: the node, and which of its output's leaves."""

    node: fx.Node
    leaf: int


@dataclasses.dataclass
class Step:
    """One node as it ran.

    ``name`` is the module's path (":2" marks its second use) or the fx node's name; ``inputs`` what the rule was given,
    ``sources`` where each came from (None: a constant). ``local`` are its parameters by the rule's names. ``reason``
    says why autograd took this step, where it did; "" for want of a rule.
    """

    node: fx.Node
    name: str
    module: nn.Module | None
    rule: Rule
    inputs: tuple[Any, ...]
    output: Any
    saved: Saved
    sources: tuple[Slot | None, ...]
    local: dict[str, nn.Parameter | Slot]
    reason: str = ""


@dataclasses.dataclass
class StepDeltas:
    """Sensitivities at one step: ``delta`` = ∂J/∂y in the output's structure (None: J does not depend on it)."""

    delta: Any
    delta_inputs: base.Deltas
    gradients: Mapping[str, Tensor]


@dataclasses.dataclass
class Sensitivities:
    """What goes back: by step name, for the model's inputs (None: unused), and for its parameters by their names.

    ``gradients`` holds the parameters that require a gradient and that J depends on; a shared parameter is there
    once, under its first name, with the sum.
    """

    steps: dict[str, StepDeltas]
    inputs: tuple[Any, ...]
    gradients: Mapping[str, Tensor]


class Tape:
    """A finished forward pass; ``output`` is the model's, ``steps`` are its nodes in forward order."""

    def __init__(
        self, graph: fx.GraphModule, steps: list[Step], inputs: dict[fx.Node, Any], output: Any, slots: list[Any]
    ) -> None:
        self.graph = graph
        self.steps = steps
        self.output = output
        self.inputs = inputs
        self._output_slots = slots
        model = graphs.source_model(graph)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @torch.no_grad()
    def backward(
        self,
        delta: Any,
        later: bool = False,
        at: Mapping[str, Tensor] | None = None,
        through: Callable[[Step, Any], base.Deltas | None] | None = None,
    ) -> Sensitivities:
        """δ of the output (in the output's structure, None where J does not depend on it) → all sensitivities.

        It may be called again with another δ. With ``later`` a parameter's gradient is computed when it is first looked
        up, where its rule can do so (the products of half a pass, for who only wants the δ); what it is computed from
        must not have been changed by then. ``at`` adds δ to the outputs of steps, by their names. ``through(step, δ)``
        may give δ of a step's inputs in the rule's stead, for other ways back than the derivative's; None leaves it to
        the rule. Raises ArgumentError when δ's shape is not the output's.
        """
        pending: dict[fx.Node, dict[int, Tensor]] = {}

        def add(slot: Slot, part: Tensor | None) -> None:
            if part is not None:
                sums = pending.setdefault(slot.node, {})
                sums[slot.leaf] = sums[slot.leaf] + part if slot.leaf in sums else part

        for slot, part in self._seeds(delta, at or {}):
            add(slot, part)
        results: dict[str, StepDeltas] = {}
        shares: dict[str, list[Callable[[], Tensor]]] = {}
        for step in reversed(self.steps):
            sums = pending.pop(step.node, {})
            whole = in_structure(step.output, sums)
            if not sums:
                results[step.name] = StepDeltas(whole, (None,) * len(step.inputs), {})
                continue
            to_inputs, local = _back_through(step, whole, later, through)
            results[step.name] = StepDeltas(whole, to_inputs, local)
            for source, part in zip(step.sources, to_inputs, strict=True):
                if source is not None:
                    add(source, part)
            for name in local:
                owner = step.local[name]
                if isinstance(owner, Slot):
                    add(owner, local[name])
                else:
                    self._collect(shares, owner, functools.partial(local.__getitem__, name))
        for node, sums in list(pending.items()):
            held = attribute(self.graph, node) if node.op == "get_attr" else None
            if isinstance(held, nn.Parameter):
                self._collect(shares, held, functools.partial(sums.__getitem__, 0))
        inputs = tuple(in_structure(value, pending.get(node, {})) for node, value in self.inputs.items())
        ordered = {name: functools.partial(_sum, shares[name]) for name in self._names.values() if name in shares}
        gradients = Later(ordered)
        return Sensitivities(dict(reversed(results.items())), inputs, gradients if later else dict(gradients))

    def _seeds(self, delta: Any, at: Mapping[str, Tensor]) -> list[tuple[Slot, Tensor | None]]:
        """Where the way back begins: δ of the output, and of the outputs of steps by their names."""
        outputs = zip(self._output_slots, self._output_deltas(delta), strict=True)
        within: list[tuple[Slot, Tensor | None]] = [
            (Slot(step.node, 0), at[step.name]) for step in self.steps if step.name in at
        ]
        return [(slot, part) for slot, part in outputs if slot is not None] + within

    def sensitivities_of_inputs(self, back: Sensitivities) -> list[tuple[Tensor, Tensor | None]]:
        """(x, ∂J/∂x or None) for every tensor among the model's inputs."""
        found = []
        for value, part in zip(self.inputs.values(), back.inputs, strict=True):
            pairs = zip(structure.leaves(value), structure.leaves(part), strict=True)
            found += [(leaf, delta) for leaf, delta in pairs if isinstance(leaf, Tensor)]
        return found

    def _output_deltas(self, delta: Any) -> list[Tensor | None]:
        outputs = structure.leaves(self.output)
        if delta is None:
            return [None] * len(outputs)
        parts = structure.leaves(delta)
        if len(parts) != len(outputs):
            raise ArgumentError("delta", f"{len(parts)} parts", f"{len(outputs)}, one for each output of the model")
        for part, y in zip(parts, outputs, strict=True):
            if isinstance(part, Tensor) and isinstance(y, Tensor) and part.shape != y.shape:
                raise ArgumentError("delta", tuple(part.shape), f"the shape of the model's output, {tuple(y.shape)}")
        return [part if isinstance(y, Tensor) else None for part, y in zip(parts, outputs, strict=True)]

    def _collect(
        self, shares: dict[str, list[Callable[[], Tensor]]], parameter: nn.Parameter, share: Callable[[], Tensor]
    ) -> None:
        name = self._names.get(id(parameter))
        if name is not None and parameter.requires_grad:
            shares.setdefault(name, []).append(share)


def _back_through(
    step: Step, delta: Any, later: bool, through: Callable[[Step, Any], base.Deltas | None] | None
) -> tuple[base.Deltas, Mapping[str, Tensor]]:
    """δ of the step's inputs, and the gradients of its trained parameters (none where ``through`` takes it back)."""
    taken = None if through is None else through(step, delta)
    if taken is not None:
        return taken, {}
    rule = step.rule
    trained = [name for name, owner in step.local.items() if _is_trained(owner)]
    apart = type(rule).gradients is not Rule.gradients and not any(isinstance(v, Slot) for v in step.local.values())
    if later and apart and trained:
        find = functools.cache(torch.no_grad()(functools.partial(rule.gradients, step.saved, delta)))
        return rule.deltas(step.saved, delta), Later({name: _looked_up(find, name) for name in trained})
    to_inputs, found = rule.backward(step.saved, delta)
    return to_inputs, {name: gradient for name, gradient in found.items() if name in trained}


def _looked_up(find: Callable[[], Gradients], name: str) -> Callable[[], Tensor]:
    return lambda: find()[name]


def _sum(shares: list[Callable[[], Tensor]]) -> Tensor:
    """A parameter's gradient from each of its uses."""
    return functools.reduce(operator.add, (share() for share in shares))


@torch.no_grad()
def forward(model: nn.Module, *inputs: Any, **named: Any) -> Tape:
    """Run ``model`` (or the graph that ``convscope.graph.capture`` made of it) on ``inputs`` by the rules.

    What has no rule is differentiated by autograd, locally. As in torch, batch normalisation in training mode updates
    its running statistics and dropout draws a mask. ``.grad`` and the inputs stay untouched. Raises ConvscopeError
    naming the layer in which something failed.
    """
    return Run(captured(model, inputs, named)).run(inputs, named)


def captured(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named: Mapping[str, Any],
    look: Callable[[Any, list[Tensor]], None] | None = None,
    results: dict[fx.Node, Any] | None = None,
) -> fx.GraphModule:
    """``graph.capture.record``, whose errors name the layer as the rules' own do."""
    if (found := graphs.captured_already(model)) is not None:
        return found
    if not inputs and not named:
        raise ArgumentError("inputs", "none", "at least one input of the model")
    try:
        return graphs.record(model, inputs, dict(named), look, results)
    except graphs.FailedCallError as failed:
        error = failed.error
        if failed.path is None or not isinstance(error, _USUAL):
            raise error from None
        if failed.module is not None:
            with torch.no_grad(), _named(failed.path, failed.module):
                applied = base.apply_module(failed.module, tuple(failed.args_given), failed.keywords)
                if applied is not None and not applied.rule.buffers:
                    applied.rule.forward(*applied.inputs, **applied.arguments)  # a rule's errors say more
        raise ConvscopeError(f"layer {failed.path!r} ({type(failed.module).__name__}): {error}") from error


_USUAL = (RuntimeError, TypeError, ValueError, IndexError)


class _named:  # noqa: N801 (used as a statement)
    """Errors inside are told with the name of the layer."""

    def __init__(self, name: str, target: Any) -> None:
        self._name, self._target = name, target

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, ArgumentError):
            hint = f"{error.hint} " if error.hint else ""
            hint += f"It happened in layer {self._name!r}."
            raise ArgumentError(error.argument, error.got, error.wanted, hint) from error
        if isinstance(error, _USUAL) and not isinstance(error, ConvscopeError):
            kind = type(self._target).__name__ if isinstance(self._target, nn.Module) else self._target
            raise ConvscopeError(f"layer {self._name!r} ({kind}): {error}") from error


class Run:
    """One forward pass: the values of the nodes so far."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.values: dict[fx.Node, Any] = {}
        self.steps: list[Step] = []
        self._slots: dict[tuple[fx.Node, int], Slot] = {}  # of containers that a node only builds
        self._name_of = Names()

    def run(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tape:
        placeholders = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        self._take_inputs(placeholders, inputs, dict(named))
        for node in self.graph.graph.nodes:
            if node.op == "get_attr":
                self.values[node] = attribute(self.graph, node)
            elif node.op == "output":
                slots: dict[int, Slot] = {}
                output = self._aliases(node.args[0], slots)
                leaves = [slots.get(id(leaf)) for leaf in structure.leaves(output)]
                given = {each: self.values[each] for each in placeholders}
                return Tape(self.graph, self.steps, given, output, leaves)
            elif node.op != "placeholder":
                self._run_node(node)
        raise AssertionError("a graph ends with its output")

    def _take_inputs(self, placeholders: list[fx.Node], inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if len(inputs) > len(placeholders):
            raise ArgumentError("inputs", f"{len(inputs)} in order", f"at most the model's {len(placeholders)}")
        before = graphs.facts(self.graph).inputs
        for index, node in enumerate(placeholders):
            name = str(node.target)
            if index < len(inputs):
                self.values[node] = inputs[index]
            elif name in named:
                self.values[node] = named.pop(name)
            elif node.args:
                self.values[node] = node.args[0]
            else:
                raise ArgumentError("inputs", f"{len(inputs)} in order", f"also the model's input {node.target!r}")
            if name in before and (structure.tensors(self.values[node]) or self.values[node] != before[name]):
                wanted = f"{before[name]!r}, as when it was captured"
                raise ArgumentError(name, self.values[node], wanted, "What is no tensor is part of the graph.")
        if named:
            names = ", ".join(str(node.target) for node in placeholders)
            raise ArgumentError("inputs", sorted(named), f"names among the model's inputs: {names}")

    def _run_node(self, node: fx.Node) -> None:
        slots: dict[int, Slot] = {}
        args, kwargs = self._aliases(node.args, slots), self._aliases(node.kwargs, slots)
        if node.target is memory.update:
            held = node.all_input_nodes[0]
            if held.op == "get_attr":  # inputs that the model writes over stay as they are
                memory.update(attribute(self.graph, held), args[1])
        elif node.target is sizes.expect:
            sizes.expect(*args)
        elif isinstance(node.target, type):  # a container of a class of its own
            self.values[node] = node.target(*args, **kwargs)
            for index, leaf in enumerate(structure.leaves(self.values[node])):
                if id(leaf) in slots:
                    self._slots[node, index] = slots[id(leaf)]
        else:
            self._step(node, args, kwargs, slots)

    def _step(self, node: fx.Node, args: Any, kwargs: Any, slots: dict[int, Slot]) -> None:
        module = graphs.find_module(self.graph, node)
        name = self._name_of(node)
        with _named(name, module if module is not None else node.target):
            applied, y, saved, reason = self.apply(node, module, args, kwargs)
        self.values[node] = y
        sources = tuple(slots.get(id(item)) for item in applied.inputs)
        local: dict[str, nn.Parameter | Slot] = {}
        for key, value in applied.arguments.items():
            if id(value) in slots:
                local[key] = slots[id(value)]
            elif isinstance(value, nn.Parameter):
                local[key] = value
        if isinstance(applied.rule, LocalAutograd):
            local.update(applied.rule.trained)
            for index, changed in saved["changed"].items():  # running statistics that were given to a function
                source = sources[index]
                if source is not None and source.node.op == "get_attr" and node.op == "call_function":
                    memory.update(attribute(self.graph, source.node), changed)
        self.steps.append(Step(node, name, module, applied.rule, applied.inputs, y, saved, sources, local, reason))

    def apply(self, node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any) -> tuple[Applied, Any, Saved, str]:
        """The rule for one call, and what it gave: (with its inputs, y, saved, why it is autograd)."""
        applied = finding.find_rule(node, module, args, kwargs)
        y, saved = applied.rule.forward(*applied.inputs, **applied.arguments)
        return applied, y, saved, graphs.facts(self.graph).opaque.get(node.name, "")

    def _aliases(self, args: Any, slots: dict[int, Slot]) -> Any:
        """``args`` with every node replaced by its value; each tensor is a new alias, by whose identity its δ finds
        back to the node."""

        def alias(node: fx.Node) -> Any:
            numbers = iter(range(len(structure.leaves(self.values[node]))))

            def fresh(leaf: Any) -> Any:
                number = next(numbers)
                if not isinstance(leaf, Tensor):
                    return leaf
                found = leaf.detach()
                slots[id(found)] = self._slots.get((node, number), Slot(node, number))
                return found

            return structure.transform(self.values[node], fresh)

        return fx.node.map_arg(args, alias)


def _is_trained(owner: nn.Parameter | Slot | None) -> bool:
    return isinstance(owner, Slot) or (owner is not None and owner.requires_grad)


def attribute(graph: fx.GraphModule, node: Any) -> Any:
    """The model's attribute as it is now; the graph itself holds only what capturing made, such as constants."""
    model = graphs.source_model(graph)
    value: Any = model if hasattr(model, str(node.target).split(".")[0]) else graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value
