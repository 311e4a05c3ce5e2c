"""The end of the chain in float64: where a network is sure, p − t is the small difference of two numbers near 1."""

from __future__ import annotations

from torch import Tensor

from convscope.layers.losses import Loss, Outputs


class Fine(Loss):
    """A loss worked out in float64 whatever the outputs are; δ goes back in their own type.

    In float32, p = 0.99999998 is 1, and with it J and every δ are 0: from a gap of 17 between the two largest logits
    on. In float64 that is so from 37 on.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def value(self, outputs: Outputs, targets: Tensor) -> Tensor:
        return self.loss.value(outputs.double() if isinstance(outputs, Tensor) else outputs, targets)

    def value_and_delta(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Outputs]:
        if not isinstance(outputs, Tensor):
            return self.loss.value_and_delta(outputs, targets)
        value, delta = self.loss.value_and_delta(outputs.double(), targets)
        assert isinstance(delta, Tensor)
        return value, delta.to(outputs.dtype)

    def predictions(self, outputs: Outputs) -> Tensor:
        return self.loss.predictions(outputs)

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return self.loss._value(y, targets)

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss._value_and_delta(y, targets)
