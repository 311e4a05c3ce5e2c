"""Everything that happens in a model for one batch: the values forward, the sensitivities back, every gradient."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from convscope.displays import Shown
from convscope.errors import ArgumentError, ConvscopeError, UnknownNameError
from convscope.graph import structure
from convscope.graph.capture import one_step, source_model
from convscope.layers.losses import loss_for
from convscope.layers.outputs import AuxiliaryOutputs
from convscope.rules import tape
from convscope.rules.base import Deltas, Rule
from convscope.rules.checked import CheckedRun, reference
from convscope.shapes import check_dense
from convscope.spec import spec_of


class Loss(Protocol):
    """What ``trace`` needs of a loss; the entries of ``convscope.layers.losses.LOSSES`` are such."""

    def value_and_delta(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Any]:
        """(J, ∂J/∂outputs), J the mean over the batch."""


@dataclasses.dataclass(frozen=True)
class LayerTrace:
    """One node of the model's graph, as it ran on the batch.

    ``name`` is the module's path in the model (":2" marks a module's second use) or, for a function, the graph node's
    name. ``kind`` is the rule's family ("conv", "pool", "activation", …; "other" where autograd stood in), ``type`` the
    class or function name. ``module`` is None for functions.

    ``inputs`` are the tensors that went in, ``y`` is what came out, ``u`` the value before the node's own
    non-linearity: for an activation u = x, for a node with a built-in activation what that is applied to, for every
    other node u = y. ``delta`` = ∂J/∂u has u's shape. ``grad_x`` = ∂J/∂x for each of ``inputs``, ``gradients`` = ∂J/∂θ
    by parameter name (those that require a gradient). A node with several outputs has tuples for u, y and delta.
    ``rule`` is the rule that ran, with its options; ``reason`` says why autograd took the step, where that is not for
    want of a rule. Without a target ``delta`` is None and ``gradients`` and ``grad_x`` are empty.
    """

    name: str
    kind: str
    type: str
    module: nn.Module | None
    inputs: tuple[Tensor, ...]
    u: Any
    y: Any
    delta: Any
    grad_x: tuple[Tensor, ...]
    gradients: Mapping[str, Tensor]
    rule: Rule
    reason: str = ""

    @property
    def x(self) -> Tensor:
        """The (first) input."""
        return self.inputs[0]


class Trace(Shown):
    """The layers in forward order: iterate, ``len``, index by position or by name.

    ``logits`` is the model's output (the first tensor, where there are several), ``loss`` J (None without a target),
    ``gradients`` ∂J/∂θ of the whole model by the parameters' full names, ``grad_x`` ∂J/∂x of the model's input (of
    several inputs a tuple, in their own structure), ``ran`` the forward pass itself.
    """

    def __init__(
        self,
        layers: list[LayerTrace],
        logits: Tensor,
        loss: Tensor | None,
        gradients: Mapping[str, Tensor],
        grad_x: Any,
        ran: tape.Tape,
    ) -> None:
        self.layers = layers
        self.logits = logits
        self.loss = loss
        self.gradients = gradients
        self.grad_x = grad_x
        self.ran = ran

    def taken_back(
        self,
        target: Tensor | int,
        loss: str | Loss = "cross_entropy",
        later: bool = False,
        through: Callable[[tape.Step, Any], Deltas | None] | None = None,
    ) -> Trace:
        """The same forward pass, of unchanged weights, with the sensitivities of this target and loss.

        With ``later`` the gradients of convolutions and fully connected layers are computed when they are first looked
        up; whoever only wants δ is spared a third of the products. ``through`` as in ``Tape.backward``.
        """
        value, seed = _seed(source_model(self.ran.graph), self.ran.output, target, loss)
        return self._with(value, self.ran.backward(seed, later, through=through))

    def _with(self, value: Tensor, back: tape.Sensitivities) -> Trace:
        layers = [_layer(step, back.steps[step.name]) for step in _shown(self.ran)]
        parts = [
            structure.transform(each, _zeros_for(iter(self.ran.sensitivities_of_inputs(back))))
            for each in [tuple(value for value in self.ran.inputs.values() if structure.tensors(value))]
        ]
        grad_x = parts[0][0] if len(parts[0]) == 1 else parts[0]
        return Trace(layers, self.logits, value, back.gradients, grad_x, self.ran)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerTrace]:
        return iter(self.layers)

    def __getitem__(self, key: str | int) -> LayerTrace:
        """The layer of that position or name; UnknownNameError for a name that no layer has."""
        if isinstance(key, int):
            return self.layers[key]
        for layer in self.layers:
            if layer.name == key:
                return layer
        raise UnknownNameError("layer", key, self.names())

    def names(self) -> list[str]:
        """All layers' names, in forward order."""
        return [layer.name for layer in self.layers]


def trace(
    model: nn.Module,
    x: Any,
    target: Tensor | int | None = None,
    loss: str | Loss = "cross_entropy",
    check: bool = True,
) -> Trace:
    """Run ``model`` on ``x`` by the rules and, given a target, take the loss's sensitivities back through every layer.

    ``x`` is a batch (n, …), or one example without the batch dimension; of a model of several inputs a tuple (or, by
    name, a dict) of batches. Floating-point tensors are converted to the parameters' dtype and device, integers go in
    as they are. ``target`` is one class index, class indices (n,), or whatever tensor the loss takes. ``loss`` is a
    name in ``convscope.layers.losses.LOSSES`` (squared errors get their targets' range from the model) or an object
    with ``value_and_delta``. The model's mode (train or eval) is used as it is; its parameters and their ``.grad``
    stay untouched.

    ``check``: the model itself is called once, and every rule's result and the derivatives as a whole are compared
    with torch's. Where a rule is wrong, autograd takes the step, and the layer's ``reason`` says so.

    Raises ArgumentError for an input that is no tensor or does not fit the model, UnknownNameError for an unknown
    loss, ConvscopeError naming the layer in which the model itself failed.
    """
    captured = isinstance(model, fx.GraphModule)
    problems = []
    for inputs, named in _attempts(model, x):
        try:
            with _weights_kept(model):
                return _trace(model, inputs, named, target, loss, check and not captured)
        except _UnfitError as unfit:
            problems.append(unfit.problem)
    raise problems[0] from problems[0].__cause__


@contextlib.contextmanager
def _weights_kept(model: nn.Module) -> Iterator[None]:
    """Tables whose forward shortens their own rows (``max_norm``) are afterwards what they were."""
    tables = [module for module in model.modules() if getattr(module, "max_norm", None) is not None]
    before = [(each, each.detach().clone()) for module in tables for each in module.parameters(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, held in before:
                parameter.copy_(held)


class _UnfitError(Exception):
    """The model refuses inputs of this form."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem
        super().__init__(str(problem))


def _trace(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    target: Tensor | int | None,
    loss: str | Loss,
    check: bool,
) -> Trace:
    results: dict[fx.Node, Any] = {}
    look, found = (
        reference(model, lambda result: _seeds(model, result, target, loss)) if target is not None else (None, [])
    )
    try:
        if check:
            asking, asking_named = structure.transform((inputs, named), _asking)
            graph = tape.captured(model, asking, asking_named, look, results)
        else:
            graph = tape.captured(model, inputs, named)
    except (ConvscopeError, RuntimeError, TypeError, ValueError, IndexError, AssertionError) as problem:
        raise _UnfitError(problem) from None
    state = torch.get_rng_state()
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()] if check else []
    with torch.no_grad():
        run = CheckedRun(graph, results) if check else tape.Run(graph)
        ran = run.run(inputs, named)
    tensors = structure.tensors(ran.output)
    if not tensors:
        raise ArgumentError("model", type(source_model(graph)).__name__, "a model that puts out a tensor")
    forward = Trace([], tensors[0], None, {}, None, ran)
    if target is None:
        forward.layers = [_layer(step, None) for step in _shown(ran)]
        return forward
    value, seed = _seed(source_model(graph), ran.output, target, loss)
    back: tape.Sensitivities | None = ran.backward(seed)
    if isinstance(run, CheckedRun) and found:
        assert back is not None
        back = run.settle(ran, seed, back, found[0])
    if back is not None:
        return forward._with(value, back)
    torch.set_rng_state(state)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    whole = one_step(model, inputs, "its graph gives other derivatives than autograd")
    with torch.no_grad():
        ran = tape.Run(whole).run(inputs, named)
    value, seed = _seed(model, ran.output, target, loss)
    return Trace([], structure.tensors(ran.output)[0], None, {}, None, ran)._with(value, ran.backward(seed))


def _seed(model: nn.Module, output: Any, target: Tensor | int, loss: str | Loss) -> tuple[Tensor, Any]:
    """(J, ∂J/∂output in the output's structure)."""
    found: Loss = loss_for(loss, model) if isinstance(loss, str) else loss
    logits = structure.tensors(output)[0]
    if isinstance(output, AuxiliaryOutputs):
        return found.value_and_delta(output, _targets(target, logits))
    value, delta = found.value_and_delta(logits, _targets(target, logits))
    return value, [delta if leaf is logits else None for leaf in structure.leaves(output)]


def _seeds(model: nn.Module, output: Any, target: Tensor | int, loss: str | Loss) -> list[Any]:
    """∂J/∂output for each leaf; none for a model that puts out no tensor."""
    return (
        structure.leaves(_seed(model, output, target, loss)[1])
        if structure.tensors(output)
        else [None for _ in structure.leaves(output)]
    )


def _asking(leaf: Any) -> Any:
    """An input whose derivative is wanted."""
    return leaf.detach().requires_grad_() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _zeros_for(pairs: Iterator[tuple[Tensor, Tensor | None]]) -> Any:
    def fill(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        x, delta = next(pairs)
        return torch.zeros_like(x) if delta is None else delta

    return fill


def _shown(ran: tape.Tape) -> list[tape.Step]:
    """The steps that put out a floating-point tensor from one, or from tokens; bookkeeping such as ``x.size(0)`` is
    left out."""
    return [
        step
        for step in ran
        if any(_is_real(leaf) for leaf in structure.leaves(step.output))
        and (step.rule.kind == "embedding" or any(map(_is_real, step.inputs)))
    ]


@torch.no_grad()
def _layer(step: tape.Step, back: tape.StepDeltas | None) -> LayerTrace:
    inputs = tuple(item for item in step.inputs if isinstance(item, Tensor))
    delta: Any = None
    grad_x: tuple[Tensor, ...] = ()
    gradients: Mapping[str, Tensor] = {}
    u, _ = step.rule.at_u(step.saved, step.inputs, step.output, None)
    if back is not None:
        delta = _at_u(step, back, u)
        pairs = zip(step.inputs, back.delta_inputs, strict=True)
        grad_x = tuple(torch.zeros_like(x) if d is None else d for x, d in pairs if isinstance(x, Tensor))
        gradients = back.gradients
    name = type(step.module).__name__ if step.module is not None else _function_name(step.node.target)
    values = (inputs, u, step.output, delta, grad_x, gradients)
    return LayerTrace(step.name, step.rule.kind, name, step.module, *values, step.rule, step.reason)


def _at_u(step: tape.Step, back: tape.StepDeltas, u: Any) -> Any:
    """∂J/∂u; where u is the input itself it is known already."""
    if u is step.inputs[0] and back.delta_inputs[0] is not None:
        return back.delta_inputs[0]
    parts = iter(structure.leaves(back.delta))

    def fill(leaf: Any) -> Any:
        part = next(parts)
        return torch.zeros_like(leaf) if part is None and isinstance(leaf, Tensor) else part

    return step.rule.at_u(step.saved, step.inputs, step.output, structure.transform(step.output, fill))[1]


def _function_name(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _attempts(model: nn.Module, x: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The forms in which ``x`` may be what the model takes: (inputs in order, inputs by name), the likeliest first."""
    if isinstance(x, Mapping):
        return [((), {str(name): _ready(model, each) for name, each in x.items()})]
    if isinstance(x, tuple) and not hasattr(x, "_fields"):
        return [(tuple(_ready(model, each) for each in x), {})]
    ready = _ready(model, x)
    if isinstance(ready, Tensor) and ready.ndim == _example_dims(model):
        return [((ready.unsqueeze(0),), {}), ((ready,), {})]  # one example, or (n, h, w) where it looks like one
    return [((ready,), {})]


def batched(model: nn.Module, x: Tensor) -> Tensor:
    """x in the model's dtype and on its device, with a batch dimension."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError("x", got, "a floating-point tensor", "Preprocessing.normalise makes one from pixels.")
    ready: Tensor = _ready(model, x)
    return ready.unsqueeze(0) if ready.ndim == _example_dims(model) else ready


def _ready(model: nn.Module, x: Any) -> Any:
    """``x`` in the model's dtype and on its device; integers of 8 bits are pixels."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if not structure.tensors(x):
        raise ArgumentError("x", type(x).__name__, "a floating-point tensor, or integers where the model takes them")

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.dtype == torch.uint8:
            raise ArgumentError(
                "x", str(leaf.dtype), "a floating-point tensor", "Preprocessing.normalise makes one from pixels."
            )
        check_dense("x", leaf)
        if leaf.numel() == 0:
            raise ArgumentError("x", tuple(leaf.shape), "at least one example")
        if parameter is None:
            return leaf
        return leaf.to(parameter.device, parameter.dtype if leaf.is_floating_point() else leaf.dtype)

    return structure.transform(x, change)


def _example_dims(model: nn.Module) -> int:
    """Dimensions of one example: from the model's description, else from its first layer, else those of a picture."""
    spec = spec_of(model)
    if spec is not None and spec.input_shape:
        return len(spec.input_shape)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            return 1
        for dims, cls in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), start=2):
            if isinstance(module, cls):
                return dims
    return 3


def _targets(target: Tensor | int, logits: Tensor) -> Tensor:
    if isinstance(target, int):
        return torch.tensor([target], device=logits.device)
    target = target.to(logits.device)
    return target.unsqueeze(0) if target.ndim == 0 else target


def _is_real(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()
