"""Training with torch's autograd on the CPU."""

from __future__ import annotations

import torch
from torch import nn

from convscope.layers import penalty
from convscope.training.steppers.base import Stepper, Task, reseed


class TorchStepper(Stepper):
    """Autograd; convolutions in channels-last order where that pays, bfloat16 arithmetic where asked for."""

    name = "torch"

    def __init__(self, task: Task) -> None:
        self.channels_last = wants_channels_last(task.model)
        super().__init__(task)

    def arrange(self) -> None:
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.task.config.precision == "bfloat16"):
            outputs = self.forward(x)
            value = self.task.loss.value(outputs, targets)
        added = penalty(self.model)
        if added is not None:
            value = value + added
        value.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            correct = (self.task.loss.predictions(outputs).argmax(1) == targets).sum()
        return value.detach(), correct

    def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        return self.model(x)


def wants_channels_last(model: nn.Module) -> bool:
    """Whether channels-last order pays on a CPU: every picture-shaped layer can work in it, and convolutions are there."""
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    return bool(convolutions)
