"""Training with the native CPU engine."""

from __future__ import annotations

import torch

from convscope.layers.flat import FlatParameters
from convscope.lowering.lower import restore
from convscope.native import NativeNetwork
from convscope.training.steppers.base import Scalar, Stepper


class NativeStepper(Stepper):
    """The engine takes uint8 pictures, leaves gradients in its flat buffer and moves the parameters in the same pass.

    With other processes' gradients to add or gradients to clip, the optimiser steps the flat buffer afterwards.
    """

    name = "native"

    def flatten(self) -> FlatParameters:
        """LoweringError for a layer that the engine does not have."""
        task = self.task
        shape = (task.preprocessing.channels, *task.preprocessing.size)
        self._network = NativeNetwork(
            self.model, shape, task.loss, preprocessing=task.preprocessing, threads=torch.get_num_threads()
        )
        # What torch itself has left to do (indexing a batch, one optimiser call over the flat buffer) takes some 50 µs
        # on one thread. On two, OpenMP's barriers wait for a processor that the engine or another program is using: on
        # a busy two-core machine that cut a run from 20,000 to 850 pictures a second. ``training.run`` restores it.
        torch.set_num_threads(1)
        for training in (False, True):  # both plans now, since a plan may need room in the buffers
            self.model.train(training)
            self._network.ready()
        flat = self._network.memory.flat
        flat.attach_gradients()
        return flat

    def step(self, images: torch.Tensor, targets: torch.Tensor, seed: int, rate: float, whole: int) -> None:
        if self.task.group.world > 1 or self.descent.gradient_clip is not None:
            super().step(images, targets, seed, rate, whole)
            return
        self.descent.set_rate(rate)
        loss, tensors = self._network.descend(images, targets, self.descent.optimiser, seed)
        self._count(loss, self._correct(tensors, targets), len(targets), whole)
        self._now.images += whole

    def loss_and_gradients(self, images: torch.Tensor, targets: torch.Tensor, seed: int) -> tuple[Scalar, Scalar]:
        loss, tensors = self._network.loss_and_grad(images, targets, seed)
        return loss, self._correct(tensors, targets)

    def _correct(self, tensors: list[torch.Tensor], targets: torch.Tensor) -> int:
        outputs = restore(self._network.plan.structure, tensors)
        # numpy's argmax takes 3 µs here, torch's and the comparison 15 of a step's 900
        predicted = self.task.loss.predictions(outputs).numpy().argmax(1)
        return int((predicted == targets.numpy()).sum())

    def outputs(self, images: torch.Tensor) -> object:
        return self._network.forward(images)
