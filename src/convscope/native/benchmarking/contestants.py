"""Ways to make a training step: the native engine, and torch as people use it and as fast as it goes on a CPU."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn

from convscope.layers import Loss, loss_for
from convscope.native.accelerated import accelerate
from convscope.native.network import NativeNetwork
from convscope.spec import Preprocessing

RATE, MOMENTUM = 1e-4, 0.9  # small steps, so that the loss stays finite however long is measured


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is trained: a model, the name of its loss, the shape of its images and the number of classes."""

    name: str
    model: nn.Module
    loss: str
    input_shape: tuple[int, int, int]
    classes: int

    @property
    def preprocessing(self) -> Preprocessing:
        channels = self.input_shape[0]
        return Preprocessing(channels, self.input_shape[1:], (0.3,) * channels, (0.25,) * channels)

    def batch(self, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Random pictures, uint8 (n, c, h, w), and labels: what is on them does not change the time."""
        chance = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, *self.input_shape), generator=chance, dtype=torch.uint8)
        return images, torch.randint(0, self.classes, (count,), generator=chance)


class Contestant(ABC):
    """``step`` goes from uint8 pictures to moved parameters: normalising, gradients, SGD with momentum."""

    description: str
    torch_threads: int | None = None  # while it is its turn; None: as many as it may have

    @abstractmethod
    def __init__(self, subject: Subject) -> None: ...

    @abstractmethod
    def step(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        """One training step; returns the loss."""


class Native(Contestant):
    description = "this engine, float32; the optimiser's step in the same pass"
    torch_threads = 1  # as in training: the one torch call a step is short, and OpenMP's threads would wait in a spin

    def __init__(self, subject: Subject) -> None:
        model = copy.deepcopy(subject.model).train()
        preprocessing = subject.preprocessing
        self.network = NativeNetwork(
            model, subject.input_shape, subject.loss, preprocessing=preprocessing, threads=torch.get_num_threads()
        )
        self.network.ready()
        flat = self.network.memory.flat
        whole = nn.Parameter(flat.values)
        whole.grad = flat.gradients
        self.optimiser = torch.optim.SGD([whole], lr=RATE, momentum=MOMENTUM, fused=True)
        self.steps = 0

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        self.steps += 1
        loss, _ = self.network.descend(images, targets, self.optimiser, seed=1, step=self.steps)
        return loss


class Accelerated(Contestant):
    """What a torch program gets from one line more: every thread that torch has, and torch's own optimiser."""

    description = "convscope.accelerate, float32, and torch's optimiser in the same process"

    def __init__(self, subject: Subject) -> None:
        self.preprocessing = subject.preprocessing
        self.model = accelerate(copy.deepcopy(subject.model).train(), subject.loss)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        loss = self.model.loss_and_grad(self.preprocessing.normalise(images), targets)
        self.optimiser.step()
        return loss.item()


class Eager(Contestant):
    """The training step that every tutorial shows."""

    description = "torch eager, float32, as people use it"
    channels_last = False
    fused = False
    autocast = False

    def __init__(self, subject: Subject) -> None:
        self.model = copy.deepcopy(subject.model).train()
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss: Loss = loss_for(subject.loss, subject.model)
        self.preprocessing = subject.preprocessing
        fused = True if self.fused else None
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM, fused=fused)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        x = self.preprocessing.normalise(images)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        self.optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.loss.value(self.model(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.item()


class ChannelsLast(Eager):
    description = "torch eager, float32, channels-last, fused optimiser"
    channels_last = True
    fused = True


class Compiled(Eager):
    description = "torch.compile, float32, fused optimiser"
    fused = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.model.compile()


class BFloat16(ChannelsLast):
    description = "torch eager, bf16 autocast, channels-last, fused optimiser"
    autocast = True


#: By name, in the order of the tables. All but "bfloat16" compute in float32.
CONTESTANTS: dict[str, Callable[[Subject], Contestant]] = {
    "native": Native,
    "accelerated": Accelerated,
    "eager": Eager,
    "channels_last": ChannelsLast,
    "compile": Compiled,
    "bfloat16": BFloat16,
}
