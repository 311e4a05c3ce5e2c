"""Running a whole model by the rules: forward along its graph, then the sensitivities back against it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from convscope.errors import ArgumentError, ConvscopeError
from convscope.graph import capture as graphs
from convscope.graph.calls import Names
from convscope.rules import base
from convscope.rules.base import Applied, Gradients, Rule, Saved
from convscope.rules.lazy_gradients import Later
from convscope.rules.local_autograd import LocalAutograd
from convscope.rules.structures import in_structure

_IN_PLACE = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv,
    torch.relu_, torch.nn.functional.relu_,
}  # fmt: skip


class Slot(NamedTuple):
    """One tensor that a node put out: the node, and which of its output's leaves."""

    node: fx.Node
    leaf: int


@dataclasses.dataclass
class Step:
    """One node as it ran.

    ``name`` is the module's path (":2" marks its second use) or the fx node's name; ``inputs`` what the rule was given,
    ``sources`` where each came from (None: a constant). ``local`` are its parameters by the rule's names.
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
    inputs: tuple[Tensor | None, ...]
    gradients: Mapping[str, Tensor]


class Tape:
    """A finished forward pass; ``output`` is the model's, ``steps`` are its nodes in forward order."""

    def __init__(
        self, graph: fx.GraphModule, steps: list[Step], placeholders: list[fx.Node], output: Any, slots: list[Any]
    ) -> None:
        self.graph = graph
        self.steps = steps
        self.output = output
        self._placeholders = placeholders
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
            held = _attribute(self.graph, node) if node.op == "get_attr" else None
            if isinstance(held, nn.Parameter):
                self._collect(shares, held, functools.partial(sums.__getitem__, 0))
        inputs = tuple(pending.get(node, {}).get(0) for node in self._placeholders)
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

    def _output_deltas(self, delta: Any) -> list[Tensor | None]:
        outputs = pytree.tree_leaves(self.output)
        if delta is None:
            return [None] * len(outputs)
        parts = pytree.tree_leaves(delta, is_leaf=lambda item: item is None)
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
    return _Run(graphs.capture(model)).run(inputs, named)


class _Run:
    """One forward pass: the values of the nodes so far, and which node now stands for one changed in place."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.values: dict[fx.Node, Any] = {}
        self.replaced: dict[fx.Node, fx.Node] = {}
        self.stale: dict[fx.Node, str] = {}
        self.buffers: dict[fx.Node, Tensor] = {}
        self.versions: dict[fx.Node, int] = {}
        self.steps: list[Step] = []
        self.name_of = Names()

    def run(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tape:
        placeholders = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        self._take_inputs(placeholders, inputs, dict(named))
        for node in self.graph.graph.nodes:
            if node.op == "get_attr":
                value = _attribute(self.graph, node)
                plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
                self.values[node] = value.clone() if plain else value  # a buffer may be updated later on
                if plain:
                    self.buffers[node] = value
                    self.versions[node] = self.values[node]._version
            elif node.op == "output":
                slots: dict[int, Slot] = {}
                output = self._aliases(node.args[0], slots)
                leaves = [slots.get(id(leaf)) for leaf in pytree.tree_leaves(output)]
                return Tape(self.graph, self.steps, placeholders, output, leaves)
            elif node.op != "placeholder":
                self._step(node)
        raise AssertionError("a graph ends with its output")

    def _take_inputs(self, placeholders: list[fx.Node], inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if len(inputs) > len(placeholders):
            raise ArgumentError("inputs", f"{len(inputs)} inputs", f"at most the model's {len(placeholders)}")
        for index, node in enumerate(placeholders):
            if index < len(inputs):
                self.values[node] = inputs[index]
            elif str(node.target) in named:
                self.values[node] = named.pop(str(node.target))
            elif node.args:
                self.values[node] = node.args[0]
            else:
                raise ArgumentError("inputs", f"{len(inputs)} inputs", f"also the model's input {node.target!r}")
        if named:
            names = ", ".join(str(node.target) for node in placeholders)
            raise ArgumentError("inputs", sorted(named), f"names among the model's inputs: {names}")

    def _step(self, node: fx.Node) -> None:
        module = graphs.find_module(self.graph, node)
        name = self.name_of(node)
        slots: dict[int, Slot] = {}
        args, kwargs = self._aliases(node.args, slots), self._aliases(node.kwargs, slots)
        try:
            applied = _find_rule(node, module, args, kwargs)
            y, saved = applied.rule.forward(*applied.inputs, **applied.arguments)
        except ArgumentError as error:
            hint = f"{error.hint} " if error.hint else ""
            hint += f"It happened in layer {name!r}."
            raise ArgumentError(error.argument, error.got, error.wanted, hint) from error
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            kind = type(module).__name__ if module is not None else node.target
            raise ConvscopeError(f"layer {name!r} ({kind}): {error}") from error
        self.values[node] = y
        self._write_buffers()
        sources = tuple(slots.get(id(item)) for item in applied.inputs)
        local: dict[str, nn.Parameter | Slot] = {}
        for key, value in applied.arguments.items():
            if id(value) in slots:
                local[key] = slots[id(value)]
            elif isinstance(value, nn.Parameter):
                local[key] = value
        if isinstance(applied.rule, LocalAutograd):
            local.update(applied.rule.trained)
        self.steps.append(Step(node, name, module, applied.rule, applied.inputs, y, saved, sources, local))
        if _works_in_place(node, module):
            self._replace(node.args[0] if node.args else next(iter(node.kwargs.values())), node)
        elif isinstance(applied.rule, LocalAutograd):
            for index in saved["changed"]:  # a later use would have to see the change, which no rule can replay
                source = sources[index]
                if source is not None:
                    self.stale[source.node] = node.name

    def _aliases(self, args: Any, slots: dict[int, Slot]) -> Any:
        """``args`` with every node replaced by its value; each tensor is a new alias, by whose identity its δ finds
        back to the node."""

        def alias(node: fx.Node) -> Any:
            while node in self.replaced:
                node = self.replaced[node]
            if node in self.stale:
                raise ConvscopeError(
                    f"{node.name!r} is used after {self.stale[node]!r} changed its memory in place; "
                    "write that operation without in-place"
                )
            leaves, structure = pytree.tree_flatten(self.values[node])
            fresh = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            for index, leaf in enumerate(fresh):
                if isinstance(leaf, Tensor):
                    slots[id(leaf)] = Slot(node, index)
            return pytree.tree_unflatten(fresh, structure)

        return fx.node.map_arg(args, alias)

    def _write_buffers(self) -> None:
        """Copy back what a rule changed in its copy of a buffer, such as running statistics given to a function."""
        for node, buffer in self.buffers.items():
            value = self.values[node]
            if node.op == "get_attr" and value._version != self.versions[node]:
                buffer.copy_(value)
                self.versions[node] = value._version

    def _replace(self, changed: Any, node: fx.Node) -> None:
        """``node`` changed ``changed`` in place: from now on it stands for that node and for its aliases."""
        if not isinstance(changed, fx.Node):
            return
        while changed in self.replaced:
            changed = self.replaced[changed]
        old, new = self.values[changed], self.values[node]
        if not isinstance(old, Tensor) or not isinstance(new, Tensor):
            return
        if changed in self.buffers:  # the model's own forward updates a buffer
            self.buffers[node] = self.buffers[changed].copy_(new)
        for other, value in self.values.items():
            if other is node or not isinstance(value, Tensor):
                continue
            if other is changed or (_same_view(value, old) and not _same_view(value, new)):
                self.replaced[other] = node
            elif _overlap(value, old) and not _same_view(value, new):
                self.stale[other] = node.name


def _find_rule(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied:
    if module is not None:
        found = base.apply_module(module, args, kwargs)
    elif node.op == "call_function":
        assert callable(node.target)
        found = base.apply_function(node.target, args, kwargs)
    else:
        found = base.apply_method(str(node.target), args, kwargs)
    return found if found is not None else _by_autograd(node, module, args, kwargs)


def _by_autograd(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied:
    leaves, structure = pytree.tree_flatten((args, kwargs))
    at = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(tensors: Any) -> Any:
        filled = list(leaves)
        for index, tensor in zip(at, tensors, strict=True):
            filled[index] = tensor
        own_args, own_kwargs = pytree.tree_unflatten(filled, structure)
        if module is not None:
            return module(*own_args, **own_kwargs)
        if node.op == "call_method":
            return getattr(own_args[0], str(node.target))(*own_args[1:], **own_kwargs)
        assert callable(node.target)
        return node.target(*own_args, **own_kwargs)

    named = module.named_parameters() if module is not None else iter(())
    trained = {name: parameter for name, parameter in named if parameter.requires_grad}
    return Applied(LocalAutograd(call, trained), tuple(leaves[index] for index in at))


def _is_trained(owner: nn.Parameter | Slot | None) -> bool:
    return isinstance(owner, Slot) or (owner is not None and owner.requires_grad)


def _attribute(graph: fx.GraphModule, node: fx.Node) -> Any:
    """The model's attribute as it is now; the graph itself holds only what tracing made, such as constants."""
    model = graphs.source_model(graph)
    value: Any = model if hasattr(model, str(node.target).split(".")[0]) else graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _works_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.target in _IN_PLACE or node.kwargs.get("inplace", False):
        return True
    try:
        assert callable(node.target)
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # built-in functions have no signature; in place they are named so
        return str(getattr(node.target, "__name__", "")).endswith("_")
    return bool(bound.arguments.get("inplace", False))


def _same_view(one: Tensor, other: Tensor) -> bool:
    return (
        one.data_ptr() == other.data_ptr() != 0
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.numel() > 0
    )


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors share an element of memory, exactly: both mark their elements in the common storage."""
    storage = one.untyped_storage()
    if one.numel() == 0 or not storage.data_ptr() or storage.data_ptr() != other.untyped_storage().data_ptr():
        return False
    if one.dtype != other.dtype:
        return False
    marks = torch.zeros(storage.nbytes() // one.element_size(), dtype=torch.bool)
    marks.as_strided(one.shape, one.stride(), one.storage_offset()).fill_(True)
    return bool(marks.as_strided(other.shape, other.stride(), other.storage_offset()).any())
