"""Training by the book: every sensitivity and gradient by the written-out rules, without autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.graph.capture import capture
from convscope.graph.guards import Guard
from convscope.layers import penalised, penalty
from convscope.rules import tape
from convscope.training.steppers.base import Assignment, Stepper, reseed
from convscope.training.task import Scalar


class RulesStepper(Stepper):
    """The training procedure's steps ("卷积神经网络简介", 2021, "训练过程"):

    1. the network is initialised (by whoever built it), 2. a batch is taken, 3. its examples x with their targets y,
    4. forward: z and a of every layer, 5. the loss, 6. δ of the output layer, 7. δ of layer after layer back to the
    first, 8. from each δ the derivative by the layer's parameters, 9. summed over the batch, 10. the parameters
    descend, 11. on with the next batch. Steps 3 to 9 are done for all examples at once: a rule's gradient is the sum.
    """

    name = "rules"

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self.model.train()
        self._graphs: dict[tuple[torch.Size, ...], fx.GraphModule] = {}
        self._guard: Guard | None = None
        self.penalised = penalised(self.model)

    def loss_and_gradients(self, batch: Batch, seed: int) -> tuple[Scalar, Sequence[Scalar]]:
        reseed(seed, self.device)
        self.parameters.gradients.zero_()
        inputs = self.model_inputs(batch.inputs)
        shapes = tuple(x.shape for x in inputs)
        if self._guard is None or not self._guard.holds():  # the model is not what the graphs are records of
            self._graphs.clear()
            self._guard = Guard(self.model)
        if shapes not in self._graphs:
            self._graphs[shapes] = capture(self.model, *inputs)
        finished = tape.forward(self._graphs[shapes], *inputs)  # 4
        found = self.objective.value_and_delta(finished.output, batch.targets)  # 5, 6
        if found is None:
            kind = type(self.objective).__name__
            raise ArgumentError("engine", "rules", "another engine", f"The sensitivity of {kind} is not written out")
        value, delta = found
        gradients = finished.backward(delta).gradients  # 7, 8, 9
        for place in self.parameters:
            if place.name in gradients and place.parameter.grad is not None:
                place.parameter.grad.copy_(gradients[place.name])
        added = penalty(self.penalised)
        if added is not None:
            added.backward()  # type: ignore[no-untyped-call]
            value = value + added.detach()
        return value, self.objective.count(finished.output, batch.targets)
