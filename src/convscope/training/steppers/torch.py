"""Training with torch's autograd on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscope.layers import penalty
from convscope.layers.flat import FlatParameters
from convscope.training.steppers.base import Stepper, Task, reseed


class TorchStepper(Stepper):
    """Autograd; convolutions in channels-last order where that pays, bfloat16 arithmetic where asked for."""

    name = "torch"

    def __init__(self, task: Task) -> None:
        self.channels_last = wants_channels_last(task.model)
        super().__init__(task)

    def flatten(self) -> FlatParameters:
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return super().flatten()

    def outputs(self, images: torch.Tensor) -> Any:
        x = self.input(images)
        return self.model(x.contiguous(memory_format=torch.channels_last) if self.channels_last else x)

    def loss_and_gradients(
        self, images: torch.Tensor, targets: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        reseed(seed, self.task.device)
        return self._forward_backward(images, targets)

    def _forward_backward(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.parameters.gradients.zero_()
        x = self.input(images)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        # No cache of converted weights: each is used once a pass, and a CUDA graph must not keep one from outside.
        reduced = self.task.config.precision == "bfloat16"
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=reduced, cache_enabled=False):
            outputs = self.forward(x)
            value = self.task.loss.value(outputs, targets)
        added = penalty(self.model)
        if added is not None:
            value = value + added
        value.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            correct = (self.task.loss.predictions(outputs).argmax(1) == targets).sum()
        return value.detach(), correct

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x)


def wants_channels_last(model: nn.Module) -> bool:
    """Whether convolutions should work in channels-last order: wherever there are any.

    Forward and backward on one AVX-512 core, ms, channels-first / channels-last / channels-last in bfloat16: LeNet-5
    (batch 64) 7.6/7.7/5.5, the slides' CIFAR-10 net 13.1/9.2/7.7, MCDNN's column 29.6/22.7/12.4, 3×3 convolutions of
    64 and 128 maps (16) 95.8/89.7/48.1, the same with batch normalisation and strides (32) 30.9/27.0/17.1, depthwise
    (32) 76.5/71.2/34.3.
    """
    return any(isinstance(each, nn.Conv2d) for each in model.modules())
