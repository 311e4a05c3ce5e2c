"""The end of the chain in float64: where a network is sure, p − t is the small difference of two numbers near 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.inspect.outputs import bends, says_shares
from convscope.layers.losses import CrossEntropy, Loss, Outputs, class_indices, one_hot
from convscope.rules import loss as rules
from convscope.rules.base import Deltas, Rule
from convscope.rules.softmax import Softmax
from convscope.rules.tape import Step

Through = Callable[[Step, Any], Deltas | None]


@dataclasses.dataclass(frozen=True)
class End:
    """J, ∂J/∂y of the network's output in its own type, and the way back through the step that made it (None: the
    step's own)."""

    value: Tensor
    delta: Tensor
    through: Through | None = None


class Fine(Loss):
    """A loss worked out in float64 whatever the outputs are; δ goes back in their own type.

    Outputs in float32 say that p = 0.99999998 is 1: from a gap of 17 between the two largest logits on. What the
    others have is small but has all its digits, and J is made of that.

    ``end`` is the rule that the network ends with. After a softmax, or its logarithm, cross-entropy takes the outputs
    for what they are, J = −ln y_t or −y_t, and puts no second softmax on them; see ``at_end`` for δ there.
    """

    def __init__(self, loss: Loss, end: Rule | None = None) -> None:
        self.loss = loss
        self.normalised = end if isinstance(loss, CrossEntropy) and says_shares(end) else None

    def of_batches(self) -> Loss:
        """The loss to learn with, in the outputs' own type where it does not matter how the network ends."""
        return self.loss if self.normalised is None else self

    def value(self, outputs: Outputs, targets: Tensor) -> Tensor:
        if not isinstance(outputs, Tensor):
            return self.loss.value(outputs, targets)
        return self._value(outputs.double(), targets)

    def value_and_delta(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Outputs]:
        if not isinstance(outputs, Tensor):
            return self.loss.value_and_delta(outputs, targets)
        value, delta = self._value_and_delta(outputs.double(), targets)
        return value, delta.to(outputs.dtype)

    def predictions(self, outputs: Outputs) -> Tensor:
        return self.loss.predictions(outputs)

    def at_end(self, outputs: Tensor, last: Step | None, targets: Tensor) -> End:
        """How the way back begins, from what enters the network's last step where that is a softmax, its logarithm or
        an activation: outputs near a target have lost their difference from it in float32."""
        if last is None or not bends(last.rule):
            value, delta = self._value_and_delta(outputs.double(), targets)
            return End(value, delta.to(outputs.dtype))
        u = last.inputs[0].double()
        y, saved = last.rule.forward(u)
        value, delta = self._value_and_delta(y, targets)
        if self.normalised is not None:
            value, before = rules.cross_entropy(u, class_indices(u, targets))
        else:
            ((found,), _) = last.rule.backward(saved, delta)
            assert found is not None
            before = found

        def through(step: Step, at_output: Any) -> Deltas | None:
            return (before.to(outputs.dtype),) if step is last else None

        return End(value, delta.to(outputs.dtype), through)

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        if self.normalised is None:
            return self.loss.value(y, targets)
        t = class_indices(y, targets)[:, None]
        logarithms, p = (y.log(), y) if isinstance(self.normalised, Softmax) else (y, y.exp())
        others = p.scatter(1, t, 0).sum(1, keepdim=True)
        return torch.where(others < 0.5, -torch.log1p(-others.clamp(max=0.5)), -logarithms.gather(1, t)).mean()

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalised is None:
            value, delta = self.loss.value_and_delta(y, targets)
            assert isinstance(delta, Tensor)
            return value, delta
        share = one_hot(y, targets) / len(y)
        smallest = torch.finfo(torch.float32).tiny
        delta = -share / y.clamp_min(smallest) if isinstance(self.normalised, Softmax) else -share
        return self._value(y, targets), delta
