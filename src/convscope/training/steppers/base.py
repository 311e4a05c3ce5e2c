"""What every engine does in a descent step, and what it keeps count of."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from convscope.layers import Loss
from convscope.layers.flat import FlatParameters
from convscope.spec import Preprocessing
from convscope.training.config import Config
from convscope.training.distributed import Group
from convscope.training.optimisers import Descent

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}  # of the parameters


Scalar = torch.Tensor | float


@dataclasses.dataclass(frozen=True)
class Task:
    """What a stepper works on.

    ``preprocessing`` turns uint8 pictures of the model's size into its input;
    ``config.precision`` is no longer "auto"."""

    model: nn.Module
    loss: Loss
    preprocessing: Preprocessing
    config: Config
    device: torch.device
    group: Group
    steps: int  # descent steps that the run will have


@dataclasses.dataclass
class Reading:
    """Sums over the pictures of the steps since the last reading, over all processes."""

    loss: float = 0.0
    correct: float = 0.0
    images: int = 0
    stop: bool = False  # some process was asked to stop


class Stepper(ABC):
    """One descent step after another: ``step`` computes loss and gradients of a batch and moves the parameters.

    Loss and right answers come from the one forward pass and stay on the device until ``read``. A subclass gives
    ``loss_and_gradients``.
    """

    name: str
    reads_every = 1  # steps between readings; a GPU would have to wait at every reading

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = task.model.to(device=task.device, dtype=DTYPES.get(task.config.precision, torch.float32))
        task.group.same_start(self.model)
        self.parameters = self.flatten()
        self.descent = Descent(task.config, self.parameters, capturable=self.capturable)
        self.wants_to_stop = False
        # On a CPU reading a number costs nothing, and adding it up in Python is cheaper than three tensor operations.
        self._reads_at_once = task.device.type == "cpu"
        self._now = Reading()
        self._sums = torch.zeros(3, dtype=torch.float64, device=task.device)

    capturable = False

    def flatten(self) -> FlatParameters:
        """The model's parameters in one buffer, laid out as the engine likes them."""
        return FlatParameters(self.model)

    @abstractmethod
    def loss_and_gradients(self, images: torch.Tensor, targets: torch.Tensor, seed: int) -> tuple[Scalar, Scalar]:
        """J (mean over the pictures) and the number of right answers, as scalars; ∂J/∂w into ``parameters.gradients``.

        ``images`` uint8 (n, c, h, w), ``targets`` int64 (n,), on the device. All chance (dropout) is from ``seed``.
        """

    def step(self, images: torch.Tensor, targets: torch.Tensor, seed: int, rate: float, whole: int) -> None:
        """One descent step at learning rate ``rate`` on this process's share of a batch of ``whole`` pictures."""
        self.descent.set_rate(rate)
        loss, correct = self.loss_and_gradients(images, targets, seed)
        self._count_and_descend(loss, correct, len(targets), whole)
        self._now.images += whole

    def _count_and_descend(self, loss: Scalar, correct: Scalar, own: int, whole: int) -> None:
        self._count(loss, correct, own, whole)
        self.descent.apply()

    def _count(self, loss: Scalar, correct: Scalar, own: int, whole: int) -> None:
        if self.task.group.world > 1:
            extra = self.parameters.extra
            extra[0], extra[1], extra[2] = loss * own, correct, float(self.wants_to_stop)
            self.task.group.add_up(self.parameters, own, whole)
            self._sums += extra[:3]
        elif self._reads_at_once:
            self._now.loss += float(loss) * own
            self._now.correct += int(correct)
        else:
            self._sums[0] += loss * own
            self._sums[1] += correct

    def read(self) -> Reading:
        """The sums since the last reading; waits for the device."""
        reading, self._now = self._now, Reading()
        reading.stop = self.wants_to_stop
        if not self._reads_at_once or self.task.group.world > 1:
            reading.loss, reading.correct, asked = self._sums.tolist()
            reading.stop = asked > 0 if self.task.group.world > 1 else self.wants_to_stop
            self._sums.zero_()
        return reading

    def outputs(self, images: torch.Tensor) -> Any:
        """The model's outputs for uint8 pictures, in the mode that it is in; for evaluation, without gradients."""
        return self.model(self.input(images))

    def input(self, images: torch.Tensor) -> torch.Tensor:
        """The model's float input (n, c, h, w) from uint8 pictures."""
        x = self.task.preprocessing.normalise(images)
        return x.to(self.parameters.values.dtype)

    def close(self) -> None:  # noqa: B027 (most engines hold nothing)
        """Give back what the engine holds; the model stays usable."""


def reseed(seed: int, device: torch.device) -> None:
    """Set torch's generators, which dropout draws from. torch.manual_seed would do more than is needed, 20 µs of it."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
