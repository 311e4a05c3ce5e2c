"""Training with the native CPU engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.errors import LoweringError
from convscope.layers.flat import FlatParameters
from convscope.lowering.lower import restore
from convscope.native import NativeNetwork
from convscope.native.memory import SharedMemory
from convscope.native.mixed import Mixed, MixedNetwork
from convscope.native.network import Compiled
from convscope.native.trust import Trust, in_torch
from convscope.training.steppers.base import Assignment, Share
from convscope.training.steppers.torch import TorchStepper
from convscope.training.task import Scalar


class NativeStepper(TorchStepper):
    """The engine takes uint8 pictures, leaves gradients in its flat buffer and moves the parameters in the same pass.

    With other processes' gradients to add or gradients to clip, the optimiser steps the flat buffer afterwards. An
    objective that the engine does not have is torch's: the engine computes the outputs, autograd ∂J/∂outputs, and the
    engine takes that back, at the price of a second forward pass.

    The first step and the first evaluation are compared with torch (``native.trust``), unless ``check_engine`` is
    off; where they differ, the run goes on with torch.
    """

    name = "native"

    def __init__(self, assignment: Assignment) -> None:
        self._lowered = assignment.objective.lowered(assignment.model)
        super().__init__(assignment)

    def flatten(self) -> FlatParameters:
        """LoweringError for a layer that the engine does not have, or inputs other than one picture."""
        if reason := not_one_picture(self.assignment):
            raise LoweringError("inputs", reason)
        preprocessing = self.assignment.inputs[0].preprocessing
        assert preprocessing is not None
        shape = (preprocessing.channels, *preprocessing.size)
        self.channels_last = False
        self.trust = Trust(self.assignment.config.check_engine)
        self._threads = torch.get_num_threads()
        self._network = NativeNetwork(
            self.model, shape, self._lowered, preprocessing=preprocessing, threads=torch.get_num_threads()
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

    def step(self, batch: Batch, seed: int, rate: float, whole: Share) -> None:
        alone = self.assignment.group.world == 1
        if self._lowered is None or not alone or self.descent.gradient_clip is not None:
            super().step(batch, seed, rate, whole)
            return
        compiled = self._trusted(batch, seed)
        if compiled is None:
            super().step(batch, seed, rate, whole)
            return
        self.descent.set_rate(rate)
        loss, tensors = self._network.descend(
            batch.inputs[0], batch.targets, self.descent.optimiser, seed, compiled=compiled
        )
        self._count(loss, self._counted(compiled, tensors, batch), batch.weight, whole)

    def _trusted(self, batch: Batch, seed: int) -> Compiled | None:
        """The compiled plan for this batch; None where torch is to be used."""
        if self.trust.difference is not None:
            return None
        pictures, compiled = batch.inputs[0], self._network.ready()
        if self._lowered is None:
            with torch.enable_grad():
                found = self.trust.forward(self._network, compiled, pictures)
            assert found is None or isinstance(found, Compiled)
        else:
            found = self.trust.loss(self._network, compiled, pictures, batch.targets, seed, self.objective.value)
        if found is None:
            torch.set_num_threads(self._threads)
        return found

    def loss_and_gradients(self, batch: Batch, seed: int) -> tuple[Scalar, Sequence[Scalar]]:
        compiled = self._trusted(batch, seed)
        if compiled is None:
            return super().loss_and_gradients(batch, seed)
        if self._lowered is None:
            return self._by_outputs(compiled, batch, seed)
        loss, tensors = self._network.loss_and_grad(batch.inputs[0], batch.targets, seed, compiled=compiled)
        return loss, self._counted(compiled, tensors, batch)

    def _by_outputs(self, compiled: Compiled, batch: Batch, seed: int) -> tuple[Scalar, Sequence[Scalar]]:
        pictures = batch.inputs[0]
        tensors = [each.requires_grad_() for each in self._network.run(compiled, pictures, seed, 0)]
        value = self.objective.value(restore(compiled.plan.structure, tensors), batch.targets)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
        deltas = [torch.zeros_like(y) if delta is None else delta for y, delta in zip(tensors, found, strict=True)]
        self.parameters.gradients.zero_()
        gradients = self._network.run_backward(compiled, pictures, deltas, seed, 0, None)
        for name, gradient in zip(compiled.trained, gradients, strict=True):
            into = self._network.memory.slices[name].parameter.grad
            assert into is not None
            into.copy_(gradient)
        with torch.no_grad():
            return value.detach(), self._counted(compiled, tensors, batch)

    def _counted(self, compiled: Compiled, tensors: Sequence[Tensor], batch: Batch) -> Sequence[Scalar]:
        outputs = restore(compiled.plan.structure, [each.detach() for each in tensors])
        return self.objective.count(outputs, batch.targets)

    def outputs(self, inputs: Sequence[Tensor]) -> object:
        if self.trust.difference is None:
            with torch.no_grad():
                trusted = self.trust.forward(self._network, self._network.ready(), inputs[0])
            if trusted is not None:
                return self._network.forward(inputs[0])
            torch.set_num_threads(self._threads)
        return super().outputs(inputs)


class SegmentsStepper(TorchStepper):
    """Where the engine lacks some layers: these run in torch between segments on the engine; the loss, its way back and
    the optimiser are torch's. LoweringError where nothing in the model is worth the engine."""

    name = "native"

    def flatten(self) -> FlatParameters:
        if reason := not_one_picture(self.assignment):
            raise LoweringError("inputs", reason)
        self.channels_last = False
        preprocessing = self.assignment.inputs[0].preprocessing
        assert preprocessing is not None
        shape = (preprocessing.channels, *preprocessing.size)
        self.trust = Trust(self.assignment.config.check_engine)
        memory = SharedMemory(self.model, take=True)
        self._network = MixedNetwork(self.model, shape, memory, preprocessing)
        for training in (False, True):  # both now, since a plan may need room in the buffers
            self.model.train(training)
            self._network.ready()
        memory.flat.attach_gradients()
        return memory.flat

    def forward(self, inputs: tuple[Tensor, ...], examples: int) -> Any:
        return self._call(inputs[0])

    def outputs(self, inputs: Sequence[Tensor]) -> Any:
        return self._call(inputs[0])

    def _call(self, x: Tensor) -> Any:
        if self.trust.difference is None:
            mixed = self.trust.forward(self._network, self._network.ready(), x)
            if mixed is not None:
                assert isinstance(mixed, Mixed)
                return self._network(x, mixed)
        return in_torch(self._network, self.model)(x)


def not_one_picture(assignment: Assignment) -> str | None:
    """Why the model's inputs are not what the engine takes, one picture; None where they are."""
    inputs = assignment.inputs
    if len(inputs) != 1:
        return f"the model takes {len(inputs)} inputs, the engine one picture"
    if inputs[0].more.get("any_size"):
        return "the pictures differ in size, the engine takes one size"
    if inputs[0].preprocessing is None:
        return f"the model takes {inputs[0].kind}, the engine a picture of fixed size"
    return None
