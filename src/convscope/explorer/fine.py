"""The end of the chain in float64: where a network is sure, p − t is the small difference of two numbers near 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.layers.losses import CrossEntropy, Loss, Outputs, class_indices, one_hot
from convscope.rules import loss as rules
from convscope.rules.base import Deltas, Rule
from convscope.rules.softmax import LogSoftmax, Softmax
from convscope.rules.tape import Step


class Fine(Loss):
    """A loss worked out in float64 whatever the outputs are; δ goes back in their own type.

    Outputs in float32 say that p = 0.99999998 is 1: from a gap of 17 between the two largest logits on. What the
    others have is small but has all its digits, and J is made of that.

    ``end`` is the rule that the network ends with. After a softmax, or its logarithm, cross-entropy takes the outputs
    for what they are, J = −ln y_t or −y_t, and puts no second softmax on them; see ``settled`` for δ there.
    """

    def __init__(self, loss: Loss, end: Rule | None = None) -> None:
        self.loss = loss
        self.normalised = end if isinstance(loss, CrossEntropy) and isinstance(end, Softmax | LogSoftmax) else None

    def of_batches(self) -> Loss:
        """The loss to learn with, in the outputs' own type where it does not matter how the network ends."""
        return self.loss if self.normalised is None else self

    def value(self, outputs: Outputs, targets: Tensor) -> Tensor:
        if not isinstance(outputs, Tensor):
            return self.loss.value(outputs, targets)
        y = outputs.double()
        return self.loss.value(y, targets) if self.normalised is None else self._value(y, targets)

    def value_and_delta(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Outputs]:
        if not isinstance(outputs, Tensor):
            return self.loss.value_and_delta(outputs, targets)
        y = outputs.double()
        value, delta = self._value_and_delta(y, targets) if self.normalised else self.loss.value_and_delta(y, targets)
        assert isinstance(delta, Tensor)
        return value, delta.to(outputs.dtype)

    def predictions(self, outputs: Outputs) -> Tensor:
        return self.loss.predictions(outputs)

    def settled(self, last: Step | None, targets: Tensor) -> tuple[Tensor, Callable[[Step, Any], Deltas | None]] | None:
        """(J, the way back through the network's last step) from what enters that step, where it is the softmax that J
        takes the logarithm of: there J = −ln softmax(u)_t and δ = p − t, both in float64. None elsewhere."""
        if self.normalised is None or last is None:
            return None
        u = last.inputs[0]
        value, delta = rules.cross_entropy(u.double(), class_indices(u, targets))

        def through(step: Step, at_output: Any) -> Deltas | None:
            return (delta.to(u.dtype),) if step is last else None

        return value, through

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        if self.normalised is None:
            return self.loss._value(y, targets)
        t = class_indices(y, targets)[:, None]
        logarithms, p = (y.log(), y) if isinstance(self.normalised, Softmax) else (y, y.exp())
        others = p.scatter(1, t, 0).sum(1, keepdim=True)
        return torch.where(others < 0.5, -torch.log1p(-others.clamp(max=0.5)), -logarithms.gather(1, t)).mean()

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalised is None:
            return self.loss._value_and_delta(y, targets)
        share = one_hot(y, targets) / len(y)
        smallest = torch.finfo(torch.float32).tiny
        delta = -share / y.clamp_min(smallest) if isinstance(self.normalised, Softmax) else -share
        return self._value(y, targets), delta
