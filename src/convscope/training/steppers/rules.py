"""Training by the book: every sensitivity and gradient by the written-out rules, without autograd."""

from __future__ import annotations

import torch

from convscope.graph.capture import capture
from convscope.layers import penalty
from convscope.rules import tape
from convscope.training.steppers.base import Stepper, Task, reseed


class RulesStepper(Stepper):
    """The training procedure's steps ("卷积神经网络简介", 2021, "训练过程"):

    1. the network is initialised (by whoever built it), 2. a batch is taken, 3. its examples x with their labels y,
    4. forward: z and a of every layer, 5. the loss, 6. δ of the output layer, 7. δ of layer after layer back to the
    first, 8. from each δ the derivative by the layer's parameters, 9. summed over the batch, 10. the parameters
    descend, 11. on with the next batch. Steps 3 to 9 are done for all examples at once: a rule's gradient is the sum.
    """

    name = "rules"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.model.train()
        self._graph = capture(self.model)

    def loss_and_gradients(
        self, images: torch.Tensor, targets: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        reseed(seed, self.task.device)
        self.parameters.gradients.zero_()
        finished = tape.forward(self._graph, self.input(images))  # 4
        value, delta = self.task.loss.value_and_delta(finished.output, targets)  # 5, 6
        gradients = finished.backward(delta).gradients  # 7, 8, 9
        for place in self.parameters:
            if place.name in gradients and place.parameter.grad is not None:
                place.parameter.grad.copy_(gradients[place.name])
        added = penalty(self.model)
        if added is not None:
            added.backward()  # type: ignore[no-untyped-call]
            value = value + added.detach()
        correct = (self.task.loss.predictions(finished.output).argmax(1) == targets).sum()
        return value, correct
