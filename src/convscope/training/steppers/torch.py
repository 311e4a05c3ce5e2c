"""Training with torch's autograd on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.examples import Batch, each_tensor
from convscope.layers import penalised, penalty
from convscope.layers.flat import FlatParameters
from convscope.training.batch_norm import Synchronised
from convscope.training.steppers.base import Assignment, Stepper, reseed
from convscope.training.task import Scalar


class TorchStepper(Stepper):
    """Autograd; convolutions in channels-last order where that pays, bfloat16 arithmetic where asked for."""

    name = "torch"
    synchronised: Synchronised | None = None
    normalising: contextlib.AbstractContextManager[object] = contextlib.nullcontext()

    def __init__(self, assignment: Assignment) -> None:
        self.channels_last = wants_channels_last(assignment.model)
        super().__init__(assignment)
        self.penalised = penalised(self.model)
        group = assignment.group
        if assignment.config.sync_batch_norm and group.world > 1:
            self.normalising = self.synchronised = Synchronised(group.gather)
            self.scaled = True

    def flatten(self) -> FlatParameters:
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return super().flatten()

    def model_inputs(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        ready = super().model_inputs(inputs)
        if not self.channels_last:
            return ready
        return tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in ready)

    def loss_and_gradients(self, batch: Batch, seed: int) -> tuple[Scalar, Sequence[Scalar]]:
        reseed(seed, self.device)
        return self._forward_backward(batch)

    def _forward_backward(self, batch: Batch) -> tuple[Tensor, Sequence[Scalar]]:
        self.parameters.gradients.zero_()
        inputs = self.model_inputs(batch.inputs)
        if self.synchronised is not None:
            self.synchronised.idle = batch.examples == 0
        with self._precision(), self.normalising:
            outputs = self.forward(inputs, batch.examples)
            value = self.objective.value(outputs, batch.targets)
        added = penalty(self.penalised)
        if added is not None:
            value = value + added
        self._backward(value, outputs, batch.weight)
        with torch.no_grad():
            counts = (
                self.objective.count(outputs, batch.targets) if batch.examples else [0.0] * len(self.objective.counts)
            )
        return value.detach(), counts

    def _backward(self, value: Tensor, outputs: Any, weight: float) -> None:
        if not self.scaled:
            value.backward()  # type: ignore[no-untyped-call]
        elif weight:
            (value * (weight / self.whole)).backward()  # type: ignore[no-untyped-call]
        else:  # the other processes wait at every normalisation's sums
            found = [each for each in each_tensor(outputs) if each.requires_grad]
            torch.autograd.backward(found, [torch.zeros_like(each) for each in found])

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        kind, reduced = self.device.type, self.assignment.config.precision == "bfloat16"
        if not reduced and not torch.is_autocast_enabled(kind):
            return contextlib.nullcontext()  # entering and leaving takes 6 µs
        # No cache of converted weights: each is used once a pass, and a CUDA graph must not keep one from outside.
        return torch.autocast(kind, torch.bfloat16, enabled=reduced, cache_enabled=False)

    def forward(self, inputs: tuple[Tensor, ...], examples: int) -> Any:
        return self.model(*inputs)


def wants_channels_last(model: nn.Module) -> bool:
    """Whether convolutions should work in channels-last order: wherever there are any.

    Forward and backward on one AVX-512 core, ms, channels-first / channels-last / channels-last in bfloat16: LeNet-5
    (batch 64) 7.6/7.7/5.5, the slides' CIFAR-10 net 13.1/9.2/7.7, MCDNN's column 29.6/22.7/12.4, 3×3 convolutions of
    64 and 128 maps (16) 95.8/89.7/48.1, the same with batch normalisation and strides (32) 30.9/27.0/17.1, depthwise
    (32) 76.5/71.2/34.3.
    """
    return any(isinstance(each, nn.Conv2d) for each in model.modules())
