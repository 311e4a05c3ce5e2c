"""One forward and backward pass for one input: every number and picture on the page is read from it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer import arithmetic
from convscope.explorer.arithmetic import Explanation, Layer, Line, Terms
from convscope.explorer.arithmetic.layer import Index, doubles
from convscope.explorer.arithmetic.terms import places
from convscope.explorer.fine import End, Fine, Through
from convscope.explorer.network import INPUT, Network
from convscope.explorer.pictures import Tiles
from convscope.inspect import Trace, trace
from convscope.inspect.attribution.methods import deconvnet, guided_backprop
from convscope.inspect.attribution.subject import first_tensor
from convscope.inspect.outputs import bends, exactly, last_step, probabilities
from convscope.layers.losses import loss_for
from convscope.rules.activation import Linear
from convscope.rules.base import Deltas
from convscope.rules.elementwise import Elementwise
from convscope.rules.tape import Step

_THROUGH: Mapping[str, Through] = {"deconv": deconvnet.through, "guided": guided_backprop.through}


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of the network: the input, and for the backward pass a class and a loss (None: forward only)."""

    x: Tensor
    target: int | None
    loss: str
    guess: bool = False
    """Whether the class is to be what the network says itself (``target`` is None then)."""


class Snapshot:
    """The trace of one question. What it says never changes, so that any thread can read it while the next is made.

    With ``lazy`` only the forward pass is made at once; the backward pass follows when something of it is first asked
    for (a VGG-16 is seen after half of the time), and each parameter's gradient when that is. ``forward`` lends an
    earlier snapshot's forward pass, of the same input and weights. ``window`` is the page that it was made for.
    """

    def __init__(
        self,
        network: Network,
        question: Question,
        version: int,
        lazy: bool = False,
        forward: Snapshot | None = None,
        window: int = 0,
    ) -> None:
        self.network, self.version, self.window = network, version, window
        self._deltas: dict[str, Mapping[str, Tensor]] = {}
        self._inputs: dict[str, Tensor] = {}  # what comes back to the input under a rule
        self._lock = threading.RLock()
        self._tiles: dict[tuple[str, str, str], Tiles | None] = {}
        if forward is not None:
            lent = dict(forward._tiles)  # which another thread may add to
            self._tiles = {key: found for key, found in lent.items() if key[0] == "activation"}
        self._grad_x: Tensor | None = None
        self._gradients: Mapping[str, Tensor] = {}
        self._end: End | None = None
        self.loss: float | None = None
        self.delta_logits: Tensor | None = None
        self._ran: Trace = forward._ran if forward is not None else trace(network.graph, question.x)
        self._held = network.held(self._ran.ran)
        self.logits = self._ran.logits
        self._last = last_step(self._ran.ran, self.logits)
        self.end = None if self._last is None else self._last.rule
        self.objective = Fine(loss_for(question.loss, network.model), self.end)
        self.scores = self.objective.predictions(self.logits) if self.logits.ndim == 2 else None
        if question.guess:
            question = dataclasses.replace(question, target=self.predicted)
        self.question = question
        self._whole = question.target is None
        if question.target is not None:
            self._end = self.objective.at_end(self.logits, self._last, self._target())
            self.loss, self.delta_logits = float(self._end.value), self._end.delta
        if lazy or self._whole:
            records = network.records(self._ran)
            self.layers = {record.name: network.layer(record, None, self._held) for record in records}
        else:
            self._complete()

    def complete(self) -> None:
        """Make the backward pass if it is still to be made."""
        with self._lock:
            if not self._whole:
                self._complete()

    def _complete(self) -> None:
        back = self._taken_back()
        self._grad_x, self._gradients = back.grad_x, back.gradients
        self.layers = self._layers(back)
        self._whole = True

    def _taken_back(self, rule: str = "plain") -> Trace:
        assert self.question.target is not None
        assert self._end is not None
        through = _first_of(_THROUGH.get(rule), self._end.through)
        return self._ran.taken_back(self.question.target, self.objective, later=True, through=through)

    def _layers(self, back: Trace) -> dict[str, Layer]:
        """The calls shown with their values, δ and ∂J/∂y; the latter is what their readers send back, added up."""
        records = self.network.records(back)
        upstream: dict[str, Tensor] = {}
        if self.delta_logits is not None:
            upstream[self.network.output] = self.delta_logits
        reads: dict[str, list[tuple[str, int]]] = {}
        for source, readers in self.network.readers.items():
            for reader, place in readers:
                reads.setdefault(reader, []).append((source, place))
        for record in records:
            for source, place in reads.get(record.name, ()):
                part = record.grad_x[place]
                upstream[source] = upstream[source] + part if source in upstream else part
        return {record.name: self.network.layer(record, upstream.get(record.name), self._held) for record in records}

    @property
    def rectifiers(self) -> list[str]:
        """The calls at which the backward rules differ."""
        return [each.name for each in self._ran if isinstance(each.rule, Elementwise) and each.rule.rectifies]

    def _target(self) -> Tensor:
        return torch.tensor([self.question.target])

    @property
    def grad_x(self) -> Tensor | None:
        """∂J/∂x of the input."""
        self.complete()
        return self._grad_x

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """∂J/∂θ by the parameters' full names."""
        self.complete()
        return self._gradients

    @property
    def predicted(self) -> int | None:
        return None if self.scores is None else int(self.scores[0].argmax())

    @property
    def probabilities(self) -> Tensor | None:
        """What the outputs say of the classes, float64, by how the network ends."""
        return self.shares(exactly(self._last, self.logits))

    def shares(self, logits: Tensor) -> Tensor | None:
        """The same of other outputs (1, classes) of this network."""
        if logits.ndim != 2:
            return None
        return probabilities(logits, self.objective, self.end)[0]

    @torch.no_grad()
    def said_by(self, model: nn.Module) -> tuple[float, Tensor | None]:
        """(J, what the outputs say of the classes) of a model of the same layers, for the same question."""
        x, target = self.question.x, self._target()
        if not bends(self.end):
            output = first_tensor(model(x.clone()))
            return float(self.objective.value(output, target)), self.shares(output)
        found = trace(model, x)
        last = last_step(found.ran, found.logits)
        return float(self.objective.at_end(found.logits, last, target).value), self.shares(exactly(last, found.logits))

    def layer(self, name: str) -> Layer:
        if name not in self.layers:
            raise UnknownNameError("layer", name, self.layers)
        return self.layers[name]

    def unit(self, name: str, index: Sequence[int]) -> tuple[Layer, Index]:
        """A layer and a place in its output; ArgumentError when the place lies outside."""
        layer = self.layer(name)
        at = tuple(index)
        check_index("unit", at, layer.shape)
        return layer, at

    def deltas(self, rule: str = "plain") -> Mapping[str, Tensor]:
        """δ = ∂J/∂u of every layer under a backward rule; empty without a target."""
        if self.loss is None:
            return {}
        self.complete()
        if rule == "plain":
            return {name: layer.delta for name, layer in self.layers.items() if layer.delta is not None}
        if rule not in arithmetic.BACKWARD_RULES:
            raise UnknownNameError("rule", rule, arithmetic.BACKWARD_RULES)
        with self._lock:
            if rule not in self._deltas:
                back = self._taken_back(rule)
                layers = self._layers(back)
                if back.grad_x is not None:
                    self._inputs[rule] = back.grad_x
                self._deltas[rule] = {name: each.delta for name, each in layers.items() if each.delta is not None}
            return self._deltas[rule]

    def at_input(self, rule: str = "plain") -> Tensor | None:
        """What comes back to the input under a backward rule, "plain": ∂J/∂x; None without a target."""
        if rule == "plain":
            return self.grad_x
        self.deltas(rule)
        return self._inputs.get(rule)

    def tiles(self, kind: str, name: str, rule: str, make: Callable[[], Tiles | None]) -> Tiles | None:
        """A layer's 8-bit pictures of its activations or δ, made once."""
        with self._lock:
            if (kind, name, rule) not in self._tiles:
                self._tiles[kind, name, rule] = make()
            return self._tiles[kind, name, rule]

    def forward(self, name: str, index: Sequence[int]) -> Explanation:
        return arithmetic.explain_forward(*self.unit(name, index))

    def backward(self, name: str, index: Sequence[int], rule: str = "plain") -> Explanation:
        """δ of a unit; at the network's output it is the derivative of the loss."""
        deltas = self.deltas(rule)
        layer, at = self.unit(name, index)
        if not deltas:
            raise ArgumentError("target", None, "a class, so that there is a loss to take back")
        behind = self.network.activation_after(name)
        last = name == self.network.output or (behind == self.network.output and not self.network.readers[behind])
        if last and not self.network.readers[name] and not (layer.delta_at_input and layer.family != "activation"):
            return self._loss_delta(layer, at, float(deltas[name][(0, *at)]))
        if behind is not None and behind == self.network.output and last:
            assert self.delta_logits is not None
            return self._through_output(layer, self.layers[behind], at, float(deltas[name][(0, *at)]))
        if not self.network.readers[name] and name not in self.network.hidden and not last:
            raise ArgumentError("layer", name, "a layer that the loss depends on")
        partly = name in self.network.hidden or behind in self.network.hidden
        return arithmetic.explain_backward(layer, at, self._readers, deltas, rule, partly)

    def input_delta(self, index: Sequence[int], rule: str = "plain") -> Explanation:
        """∂J/∂x of one number of the network's input, after preprocessing: what its readers send back."""
        x = self.question.x
        check_index("index", tuple(index), tuple(x.shape[1:]))
        found = self.at_input(rule)
        if self.loss is None or found is None:
            raise ArgumentError("target", None, "a class, so that there is a loss to take back")
        layer = Layer(
            name=INPUT, kind=INPUT, family="identity", rule=Linear(), module=None, function=None, arguments=(),
            keywords={}, sources=(), inputs=(x,), u=x, y=x, delta=found,
        )  # fmt: skip
        deltas = {**self.deltas(rule), INPUT: found}
        partly = INPUT in self.network.hidden or self.network.activation_after(INPUT) in self.network.hidden
        return arithmetic.explain_backward(layer, tuple(index), self._readers, deltas, rule, partly)

    def gradient(self, name: str, parameter: str, index: Sequence[int]) -> Explanation:
        self.complete()
        layer = self.layer(name)
        if self.loss is None or layer.delta is None:
            raise ArgumentError("target", None, "a class, so that there is a loss to take back")
        if parameter not in layer.gradients:
            raise UnknownNameError("parameter", parameter, layer.gradients)
        check_index("index", tuple(index), tuple(layer.gradients[parameter].shape))
        if layer.module is None:
            raise ArgumentError("layer", name, "a layer whose parameters are a module's")
        return arithmetic.explain_gradient(layer, parameter, tuple(index), layer.delta, name in self.network.hidden)

    def _readers(self, name: str) -> list[tuple[Layer, int]]:
        return [(self.layers[reader], place) for reader, place in self.network.readers[name] if reader in self.layers]

    def _loss_delta(self, layer: Layer, at: Index, value: float) -> Explanation:
        """δ = ∂J/∂y at the output: p − t for cross-entropy, with the softmax's own sum written out."""
        y = doubles(self.logits[0]).reshape(-1)
        here = int(at[-1]) if at else 0
        target = self.question.target
        if layer.family == "activation":
            return self._through_output(layer, layer, at, value)
        if self.question.loss == "cross_entropy":
            top = float(y.max())
            powers = np.exp(y - top)
            terms = Terms(y, powers, source=places(np.arange(len(y)), rows=len(y)))
            steps = [
                Line("^", "−1", -1.0),
                Line("×", "exp(z − max)", float(powers[here])),
                Line("=", "p", float(powers[here] / powers.sum())),
                Line("−", "t", 1.0 if here == target else 0.0),
                Line("=", "δ", value),
            ]
            return Explanation(
                layer.name, "backward", "loss", at, "δ = p − t,  p = exp(z − max) / Σ exp(z − max)",
                ("", "z", "exp(z − max)"), terms, tuple(steps), value, (layer.name,), note=self.question.loss,
            )  # fmt: skip
        terms = Terms(y[here : here + 1], doubles(self._output_delta())[here : here + 1], source=places(here, rows=1))
        return Explanation(
            layer.name, "backward", "loss", at, "δ = ∂J/∂y", ("", "y", "∂J/∂y"), terms, (Line("=", "δ", value),), value,
            (layer.name,), note=self.question.loss,
        )  # fmt: skip

    def _through_output(self, layer: Layer, last: Layer, at: Index, value: float) -> Explanation:
        """δ before the activation that ends the network: ∂J/∂y times f′(u)."""
        from convscope.explorer.arithmetic.backward import derivative

        here = int(at[-1]) if at else 0
        y, delta = doubles(self.logits[0]).reshape(-1), doubles(self._output_delta())
        terms = Terms(y[here : here + 1], delta[here : here + 1], source=places(here, rows=1))
        steps = (Line("×", "f′(u)", derivative(last, at)), Line("=", "δ", value))
        return Explanation(
            layer.name, "backward", "loss", at, "δ = f′(u)·∂J/∂y", ("", "y", "∂J/∂y"), terms, steps, value,
            (last.name,), through=last.name if last is not layer else None, note=self.question.loss,
        )  # fmt: skip

    def _output_delta(self) -> Tensor:
        assert self.delta_logits is not None
        return self.delta_logits[0].reshape(-1)


def _first_of(one: Through | None, other: Through | None) -> Through | None:
    """A way back that asks ``one``, and ``other`` where that leaves a step to the rule."""
    if one is None or other is None:
        return other if one is None else one

    def through(step: Step, delta: Any) -> Deltas | None:
        found = one(step, delta)
        return other(step, delta) if found is None else found

    return through


def check_index(argument: str, index: Index, shape: tuple[int, ...]) -> None:
    fits = len(index) == len(shape) and all(
        isinstance(at, int) and not isinstance(at, bool) and 0 <= at < side
        for at, side in zip(index, shape, strict=False)
    )
    if not fits:
        limits = ", ".join(f"0…{side - 1}" for side in shape)
        raise ArgumentError(argument, list(index), f"{len(shape)} indices: {limits}")
