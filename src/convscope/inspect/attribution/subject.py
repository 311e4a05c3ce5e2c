"""A model, an input and what is explained of it: values and sensitivities by the rules, for every method."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convscope.errors import ArgumentError, ConvscopeError, UnknownNameError
from convscope.inspect.attribution.target import Place, Target, target_of
from convscope.inspect.outputs import ending, probabilities
from convscope.inspect.trace import batched
from convscope.layers.losses import Loss, loss_for
from convscope.models.catalog import default_loss
from convscope.rules import tape
from convscope.rules.base import Deltas
from convscope.rules.local_autograd import LocalAutograd

Through = Callable[[tape.Step, Any], Deltas | None]
"""(step, δ of its output) → δ of its inputs in the rule's stead; None leaves it to the rule."""

BATCH = 32
_NUMBERS = 400_000  # of inputs at once: two pictures of 224×224, so that ``stopped`` is asked every half second


class StoppedError(ConvscopeError):
    """The caller asked to stop on the way."""


class Subject:
    """``x`` (n, …) in the model's dtype, and ``target``, class numbers (n,) or a ``Place``. Use it within ``looking``.

    A class's score is the one that decides between classes: the output itself, or its negative where the smallest wins
    (distances to codes).
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        target: Target = None,
        loss: str | Loss | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self.model = model
        self.loss = loss_for(default_loss(model) if loss is None else loss, model)
        self.x = batched(model, x)
        self._stopped = stopped or (lambda: False)
        self.ran = tape.forward(model, self.x)
        output = first_tensor(self.ran.output)
        self._end = ending(self.ran, output)
        self.target = target_of(model, target, output, self.scores(output))
        self.value = self._value(self.ran)

    def scores(self, output: Tensor) -> Tensor | None:
        """Scores (n, classes), the largest the class said; None where the output is no list of classes."""
        return self.loss.predictions(output) if output.ndim == 2 else None

    def step(self, name: str, ran: tape.Tape | None = None) -> tape.Step:
        """The call of that name; UnknownNameError where there is none, or it puts out no tensor."""
        steps = (self.ran if ran is None else ran).steps
        for step in steps:
            if step.name == name and isinstance(step.output, Tensor):
                return step
        raise UnknownNameError("layer", name, [step.name for step in steps if isinstance(step.output, Tensor)])

    def values(self, x: Tensor) -> Tensor:
        """What is explained, for other inputs (m, …) of the same kind, (m,); for classes m is n, or n is 1."""
        found: list[Tensor] = []
        for part in self.parts(x):
            self.check()
            first = sum(map(len, found))
            if isinstance(self.target, Place) and self.target.layer:
                found.append(self._value(tape.forward(self.ran.graph, part), first))
            else:  # torch's own pass keeps nothing for a way back
                found.append(self._of_output(first_tensor(self.model(part.clone())), first))
        return torch.cat(found)

    def probabilities(self, x: Tensor) -> Tensor:
        """The probability of the one class that is explained, for other inputs, (m,)."""
        self.check()
        assert isinstance(self.target, Tensor)
        return probabilities(first_tensor(self.model(x.clone())), self.loss, self._end)[:, int(self.target[0])]

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (n, …) in parts of at most ``BATCH`` inputs, fewer where they are large, one where only one is answered."""
        size = max(1, min(BATCH, _NUMBERS * len(x) // max(x.numel(), 1)))
        return torch.split(x, size if min(size, len(x)) > 1 and self.takes_several else 1)

    @functools.cached_property
    def takes_several(self) -> bool:
        """Whether each of two inputs at once is answered as it is alone. A detector's view of one region and a model
        that was written for one picture answer for the first, mix them, or fail."""
        one = self.of_one(0)
        try:
            other, own = one._value(tape.forward(self.ran.graph, torch.cat([torch.zeros_like(one.x), one.x])))
        except Exception:  # whatever such a model raises
            return False
        alone = one.value[0]
        return bool((own - alone).abs() <= 1e-3 * torch.maximum(alone.abs(), (own - other).abs()))

    def of_one(self, number: int) -> Subject:
        """The same question of one example alone, for many variants of which ``values`` can then be asked."""
        one = copy.copy(self)
        one.x, one.value = self.x[number : number + 1], self.value[number : number + 1]
        if isinstance(self.target, Tensor):
            one.target = self.target[number : number + 1]
        return one

    def gradient(self, x: Tensor, through: Through | None = None) -> Tensor:
        """∂value/∂x for each input on its own, in x's shape; ``through`` changes the way back."""
        found: list[Tensor] = []
        for part in self.parts(x):
            self.check()
            ran = tape.forward(self.ran.graph, part)
            delta = self.back(ran, through, sum(map(len, found))).inputs[0]
            found.append(torch.zeros_like(part) if delta is None else delta)
        return torch.cat(found)

    def back(self, ran: tape.Tape, through: Through | None = None, first: int = 0) -> tape.Sensitivities:
        """All sensitivities of the value, one example's apart from another's; ``first`` numbers ran's first example."""
        if isinstance(self.target, Place) and self.target.layer:
            step = self.step(self.target.layer, ran)
            return ran.backward(None, at={step.name: self.target.seed(step.output)}, through=through)
        output = first_tensor(ran.output)
        if isinstance(self.target, Place):
            seed = self.target.seed(output)
        else:
            with torch.enable_grad():  # through the loss's own scores: the outputs, or their negative
                leaf = output.detach().requires_grad_()
                scores = self.scores(leaf)
                assert scores is not None
                (seed,) = torch.autograd.grad(scores.gather(1, self._classes(len(leaf), first)[:, None]).sum(), leaf)
        leaves = pytree.tree_leaves(ran.output)
        return ran.backward([seed if leaf is output else None for leaf in leaves], through=through)

    def check(self) -> None:
        """Raise StoppedError where the caller asked to stop."""
        if self._stopped():
            raise StoppedError("cancelled")

    def require_insight(self, method: str) -> None:
        """Refuse a model with parts that cannot be seen through: a rectifier within would be missed."""
        for step in self.ran:
            own = step.module is not None and not type(step.module).__module__.startswith("torch.nn")
            if own and isinstance(step.rule, LocalAutograd):
                raise ArgumentError(
                    "method", method, "one that needs only derivatives",
                    f"The rectifiers within {step.name!r} ({type(step.module).__name__}) cannot be seen.",
                )  # fmt: skip

    def _value(self, ran: tape.Tape, first: int = 0) -> Tensor:
        if isinstance(self.target, Place) and self.target.layer:
            return self.target.of(self.step(self.target.layer, ran).output)
        return self._of_output(first_tensor(ran.output), first)

    def _of_output(self, output: Tensor, first: int) -> Tensor:
        if isinstance(self.target, Place):
            return self.target.of(output)
        scores = self.scores(output)
        assert scores is not None
        return scores.gather(1, self._classes(len(scores), first)[:, None])[:, 0]

    def _classes(self, count: int, first: int) -> Tensor:
        """The classes of ``count`` examples from number ``first`` on; one for all where only one was given."""
        assert isinstance(self.target, Tensor)
        return self.target.expand(count) if len(self.target) == 1 else self.target[first : first + count]


def first_tensor(output: Any) -> Tensor:
    """A model's output; of several the first tensor. Raises ArgumentError where there is none."""
    found = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    if not found:
        raise ArgumentError("model", type(output).__name__, "a model that puts out a tensor")
    return found[0]
