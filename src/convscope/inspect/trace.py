"""Everything that happens in a model for one batch: the values forward, the sensitivities back, every gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.capture import source_model
from convscope.layers.losses import loss_for
from convscope.layers.outputs import AuxiliaryOutputs
from convscope.rules import tape
from convscope.rules.base import Deltas, Rule
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
    ``rule`` is the rule that ran, with its options.
    Without a target ``delta`` is None and ``gradients`` and ``grad_x`` are empty.
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

    @property
    def x(self) -> Tensor:
        """The (first) input."""
        return self.inputs[0]


class Trace:
    """The layers in forward order: iterate, ``len``, index by position or by name.

    ``logits`` is the model's output (the first tensor, where there are several), ``loss`` J (None without a target),
    ``gradients`` ∂J/∂θ of the whole model by the parameters' full names, ``grad_x`` ∂J/∂x of the model's input, ``ran``
    the forward pass itself.
    """

    def __init__(
        self,
        layers: list[LayerTrace],
        logits: Tensor,
        loss: Tensor | None,
        gradients: Mapping[str, Tensor],
        grad_x: Tensor | None,
        ran: tape.Tape,
        batch: Tensor,
    ) -> None:
        self.layers = layers
        self.logits = logits
        self.loss = loss
        self.gradients = gradients
        self.grad_x = grad_x
        self.ran = ran
        self._batch = batch

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
        ran, batch = self.ran, self._batch
        found: Loss = loss_for(loss, source_model(ran.graph)) if isinstance(loss, str) else loss
        if isinstance(ran.output, AuxiliaryOutputs):
            value, seed = found.value_and_delta(ran.output, _targets(target, self.logits))
        else:
            value, delta = found.value_and_delta(self.logits, _targets(target, self.logits))
            seed = [delta if leaf is self.logits else None for leaf in pytree.tree_leaves(ran.output)]
        back = ran.backward(seed, later, through=through)
        layers = [_layer(step, back.steps[step.name]) for step in _shown(ran)]
        grad_x = back.inputs[0] if back.inputs and back.inputs[0] is not None else torch.zeros_like(batch)
        return Trace(layers, self.logits, value, back.gradients, grad_x, ran, batch)

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
    x: Tensor,
    target: Tensor | int | None = None,
    loss: str | Loss = "cross_entropy",
) -> Trace:
    """Run ``model`` on ``x`` by the rules and, given a target, take the loss's sensitivities back through every layer.

    ``x`` is a batch (n, …), or one example without the batch dimension; it is converted to the parameters' dtype and
    device. ``target`` is one class index, class indices (n,), or whatever tensor the loss takes. ``loss`` is a name in
    ``convscope.layers.losses.LOSSES`` (squared errors get their targets' range from the model) or an object with
    ``value_and_delta``. The model's mode (train or eval) is used as it is; its parameters and their ``.grad`` stay
    untouched.

    Raises ArgumentError for an input that is not floating point or does not fit the model, UnknownNameError for an
    unknown loss, ConvscopeError naming the layer in which the model itself failed.
    """
    batch = batched(model, x)
    ran = tape.forward(model, batch)
    tensors = [leaf for leaf in pytree.tree_leaves(ran.output) if isinstance(leaf, Tensor)]
    if not tensors:
        raise ArgumentError("model", type(model).__name__, "a model that puts out a tensor")
    forward = Trace([], tensors[0], None, {}, None, ran, batch)
    if target is not None:
        return forward.taken_back(target, loss)
    forward.layers = [_layer(step, None) for step in _shown(ran)]
    return forward


def _shown(ran: tape.Tape) -> list[tape.Step]:
    """The steps that put out a floating-point tensor from one; bookkeeping such as ``x.size(0)`` is left out."""
    return [
        step
        for step in ran
        if any(_is_real(leaf) for leaf in pytree.tree_leaves(step.output)) and any(map(_is_real, step.inputs))
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
    return LayerTrace(step.name, step.rule.kind, name, step.module, *values, step.rule)


def _at_u(step: tape.Step, back: tape.StepDeltas, u: Any) -> Any:
    """∂J/∂u; where u is the input itself it is known already."""
    if u is step.inputs[0] and back.delta_inputs[0] is not None:
        return back.delta_inputs[0]
    leaves, structure = pytree.tree_flatten(step.output)
    parts = pytree.tree_leaves(back.delta, is_leaf=lambda item: item is None)
    filled = [
        torch.zeros_like(leaf) if part is None and isinstance(leaf, Tensor) else part
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return step.rule.at_u(step.saved, step.inputs, step.output, pytree.tree_unflatten(filled, structure))[1]


def _function_name(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def batched(model: nn.Module, x: Tensor) -> Tensor:
    """x in the model's dtype and on its device, with a batch dimension."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError("x", got, "a floating-point tensor", "Preprocessing.normalise makes one from pixels.")
    check_dense("x", x)
    if x.numel() == 0:
        raise ArgumentError("x", tuple(x.shape), "at least one example")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        x = x.to(parameter.device, parameter.dtype)
    return x.unsqueeze(0) if x.ndim == _example_dims(model) else x


def _example_dims(model: nn.Module) -> int:
    """Dimensions of one example: from the model's description, else from its first layer, else those of a picture."""
    spec = spec_of(model)
    if spec is not None:
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
