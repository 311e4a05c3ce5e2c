"""A pass by the rules beside the model's own: each rule's result is compared with what torch put out at that place.

The recorded call of the model (``graph.capture.record``) is the reference. Every rule gets the very numbers that went
into the call there, so that it decides as torch did at every kink, and nothing adds up from step to step. What differs
by more than rounding is worked out again in float64, by the rule and by autograd; where these differ too, autograd
takes the step and ``Step.reason`` says so.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope.graph import capture as graphs
from convscope.graph import structure
from convscope.graph.kept import known_result
from convscope.graph.untouched import Untouched
from convscope.rules import finding, tape
from convscope.rules.base import Applied, Saved
from convscope.rules.local_autograd import LocalAutograd

# Sums of a few thousand products differ by some 10 eps of the largest result with the order in which they are added.
_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}
_EXACT = 1e-9  # in float64, of the largest number


@dataclasses.dataclass
class Reference:
    """What autograd makes of the recorded call: ∂J/∂x by the inputs' tensors in order, ∂J/∂θ by the parameters' names.
    ``None``: J does not depend on it."""

    inputs: list[Tensor | None]
    parameters: dict[str, Tensor | None]


def reference(
    model: nn.Module, seeds: Callable[[Any], list[Tensor | None]]
) -> tuple[Callable[[Any, list[Tensor]], None], list[Reference]]:
    """(``look`` for ``record``, where what it finds is put): the derivatives for δ = ``seeds(result)``, one for each
    leaf of the result."""
    found: list[Reference] = []

    def look(result: Any, leaves: list[Tensor]) -> None:
        given = seeds(structure.transform(result, _detached))
        pairs = [
            (leaf, seed)
            for leaf, seed in zip(structure.leaves(result), given, strict=True)
            if isinstance(leaf, Tensor) and leaf.requires_grad and seed is not None
        ]
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        sources = [*leaves, *trained.values()]
        wanted = [source for source in sources if source.requires_grad]
        gradients: list[Tensor | None] = [None] * len(wanted)
        if pairs and wanted:
            outputs, deltas = zip(*pairs, strict=True)
            gradients = list(torch.autograd.grad(outputs, wanted, deltas, allow_unused=True))
        by_id = {id(source): gradient for source, gradient in zip(wanted, gradients, strict=True)}
        at_inputs = [by_id.get(id(leaf)) for leaf in leaves]
        found.append(Reference(at_inputs, {name: by_id.get(id(each)) for name, each in trained.items()}))

    return look, found


@dataclasses.dataclass
class _Call:
    """One call as it was made, to be made again."""

    node: fx.Node
    module: nn.Module | None
    args: Any
    keywords: Any
    slots: dict[int, tape.Slot]
    chance: Tensor


class CheckedRun(tape.Run):
    """``tape.Run`` with the recorded call's results beside it."""

    def __init__(self, graph: fx.GraphModule, results: Mapping[fx.Node, Any]) -> None:
        super().__init__(graph)
        self._results = results
        self._calls: dict[str, _Call] = {}
        self._slots_now: dict[int, tape.Slot] = {}

    def _step(self, node: fx.Node, args: Any, kwargs: Any, slots: dict[int, tape.Slot]) -> None:
        self._slots_now = slots
        super()._step(node, args, kwargs, slots)
        step = self.steps[-1]
        self._calls[step.name] = self._made

    def apply(self, node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any) -> tuple[Applied, Any, Saved, str]:
        chance = torch.get_rng_state()
        self._made = _Call(node, module, args, kwargs, self._slots_now, chance)
        buffers = [] if module is None else [(each, each.clone()) for each in module.buffers()]
        applied, y, saved, reason = super().apply(node, module, args, kwargs)
        real = known_result(self._results, node)
        if real is None or isinstance(applied.rule, LocalAutograd):
            return applied, y, saved, reason
        if _alike(y, real, _ROUNDING) or _agree(self._made, None):
            return applied, structure.transform(real, _detached), saved, reason
        torch.set_rng_state(chance)
        for buffer, before in buffers:
            buffer.copy_(before)
        applied = finding.by_autograd(node, module, args, kwargs)
        y, saved = applied.rule.forward(*applied.inputs, **applied.arguments)
        return applied, y, saved, "its rule gives another result than torch"

    def settle(
        self, ran: tape.Tape, seed: Any, back: tape.Sensitivities, right: Reference
    ) -> tape.Sensitivities | None:
        """``back``, or where it is not what autograd found, what comes back once the steps that are wrong are
        autograd's; None where no step is to blame, so that the graph is not the model."""
        if matches(ran, back, right):
            return back
        wrong = [
            step.name
            for step in ran
            if not isinstance(step.rule, LocalAutograd)
            and structure.tensors(back.steps[step.name].delta)
            and not _agree(self._calls[step.name], back.steps[step.name].delta)
        ]
        if wrong:
            for step in ran:
                if step.name in wrong:
                    self._by_autograd(step)
            try:
                back = ran.backward(seed)
            except RuntimeError:  # what was worked out again has written over buffers that other steps go back by
                return None
            if matches(ran, back, right):
                return back
        return back if _graph_matches(ran, seed, right) else None

    def _by_autograd(self, step: tape.Step) -> None:
        call = self._calls[step.name]
        applied = finding.by_autograd(call.node, call.module, call.args, call.keywords)
        chance = torch.get_rng_state()
        held = call.module if call.module is not None else nn.Module()
        untouched = Untouched(held)
        try:
            torch.set_rng_state(call.chance)
            _, step.saved = applied.rule.forward(*applied.inputs, **applied.arguments)
        finally:
            untouched.restore()
            torch.set_rng_state(chance)
        step.rule, step.inputs = applied.rule, applied.inputs
        step.sources = tuple(call.slots.get(id(item)) for item in applied.inputs)
        assert isinstance(applied.rule, LocalAutograd)
        step.local = dict(applied.rule.trained)
        step.reason = "its rule gives other sensitivities than autograd"


def matches(ran: tape.Tape, back: tape.Sensitivities, right: Reference) -> bool:
    """Whether sensitivities are those of autograd but for rounding."""
    names = right.parameters.keys() | back.gradients.keys()
    pairs = [(back.gradients.get(name), right.parameters.get(name)) for name in names]
    given = [part for value, part in ran.sensitivities_of_inputs(back) if value.is_floating_point()]
    pairs += zip(given, right.inputs, strict=True)
    return _close(pairs)


def _close(pairs: list[tuple[Tensor | None, Tensor | None]]) -> bool:
    largest = max((float(right.abs().max()) for _, right in pairs if right is not None and right.numel()), default=0.0)
    for found, right in pairs:
        one = right if right is not None else found
        if one is None or not one.numel():
            continue
        difference = (0 if found is None else found) - (torch.zeros_like(one) if right is None else right)
        # A gradient that cancels out, as a bias's before batch normalisation, is compared with the others.
        scale = max(float(one.abs().max()), 1e-3 * largest)
        tolerance = 1e-9 if one.dtype == torch.float64 else 1e-4
        if not float(difference.abs().max()) <= tolerance * scale:
            return False
    return True


def _graph_matches(ran: tape.Tape, seed: Any, right: Reference) -> bool:
    """Whether the graph, run by torch itself, has the model's derivatives: then what is left of a difference is
    rounding, for each rule by itself has been found right."""
    model = graphs.source_model(ran.graph)
    untouched = Untouched(model)
    try:
        with torch.enable_grad():
            made: dict[int, Tensor] = {}

            def leaf(item: Any) -> Any:
                if not isinstance(item, Tensor):
                    return item
                made[id(item)] = item.detach().clone().requires_grad_(item.is_floating_point())
                return made[id(item)].clone()

            inputs = [structure.transform(value, leaf) for value in ran.inputs.values()]
            result = fx.Interpreter(ran.graph).run(*inputs)
            look, found = reference(model, lambda _: structure.leaves(seed))
            look(result, [each for each in made.values() if each.is_floating_point()])
    except (RuntimeError, TypeError, ValueError):
        return False
    finally:
        untouched.restore()
    pairs = [(found[0].parameters[name], right.parameters[name]) for name in right.parameters]
    pairs += zip(found[0].inputs, right.inputs, strict=True)
    return _close(pairs)


def _agree(call: _Call, delta: Any) -> bool:
    """Whether the rule and autograd agree in float64 at this call's own numbers, forward and (given ``delta``) back."""
    chance = torch.get_rng_state()
    try:
        one, other = (_in_double(call, delta, find) for find in (finding.find_rule, finding.by_autograd))
    except (RuntimeError, TypeError):  # what cannot be copied, or has no float64
        return False
    finally:
        torch.set_rng_state(chance)
    return all(_same(one.get(key), other.get(key)) for key in one.keys() | other.keys())


def _in_double(call: _Call, delta: Any, find: Callable[..., Applied]) -> dict[tuple[str, Any], Any]:
    """Everything that a call gives, in float64: its results, and δ by arguments and parameters."""
    torch.set_rng_state(call.chance)
    module = None if call.module is None else copy.deepcopy(call.module).double()
    args, keywords = structure.transform((call.args, call.keywords), _double)
    applied = find(call.node, module, args, keywords)
    y, saved = applied.rule.forward(*applied.inputs, **applied.arguments)
    found: dict[tuple[str, Any], Any] = {("y", index): leaf for index, leaf in enumerate(structure.leaves(y))}
    if delta is None:
        return found
    to_inputs, gradients = applied.rule.backward(saved, structure.transform(delta, _double))
    places: dict[int, tuple[str, Any]] = {
        id(leaf): ("δ", index) for index, leaf in enumerate(structure.leaves((args, keywords)))
    }
    if module is not None:
        places |= {id(parameter): ("∂J/∂θ", name) for name, parameter in module.named_parameters()}
    owners: list[tuple[Any, Any]] = [*zip(applied.inputs, to_inputs, strict=True)]
    trained = applied.rule.trained if isinstance(applied.rule, LocalAutograd) else applied.arguments
    owners += [(trained.get(name), gradient) for name, gradient in gradients.items()]
    for owner, part in owners:
        if isinstance(part, Tensor) and id(owner) in places and getattr(owner, "requires_grad", True) is not None:
            key = places[id(owner)]
            found[key] = found[key] + part if key in found else part
    return found


def _same(one: Any, other: Any) -> bool:
    """The same but for rounding in float64; what is missing is 0."""
    if not isinstance(one, Tensor) and not isinstance(other, Tensor):
        return bool(one == other)
    one, other = (torch.zeros(()) if each is None else each for each in (one, other))
    return _alike(one, other, dict.fromkeys((torch.float32, torch.float64), _EXACT))


def _alike(y: Any, real: Any, tolerances: Mapping[torch.dtype, float]) -> bool:
    """Whether two results are the same but for ``tolerances`` (parts of the largest number), types and all."""
    ones, others = structure.leaves(y), structure.leaves(real)
    return len(ones) == len(others) and all(
        _tensors_alike(one, other, tolerances) if isinstance(other, Tensor) else one is other or bool(one == other)
        for one, other in zip(ones, others, strict=True)
    )


def _tensors_alike(one: Any, other: Tensor, tolerances: Mapping[torch.dtype, float]) -> bool:
    if not isinstance(one, Tensor) or one.dtype != other.dtype or (one.ndim and one.shape != other.shape):
        return False
    one, other = one.detach(), other.detach()
    if other.dtype not in tolerances:
        return bool(((one == other) | ((one != one) & (other != other))).all())
    finite = torch.isfinite(other)
    if not bool(((one == other) | (one.isnan() & other.isnan()) | finite).all()):
        return False
    scale = float(other[finite].abs().max()) if bool(finite.any()) else 0.0
    difference = (one - other)[finite.expand_as(one - other)]
    return not difference.numel() or float(difference.abs().max()) <= tolerances[other.dtype] * scale + 1e-300


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _double(leaf: Any) -> Any:
    return leaf.detach().double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
