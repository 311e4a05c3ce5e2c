"""What every engine does in a descent step, and what it keeps count of."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.examples import Batch
from convscope.layers.flat import EXTRA, FlatParameters
from convscope.spec import Input
from convscope.training.config import Config
from convscope.training.distributed import Group
from convscope.training.optimisers import Descent
from convscope.training.task import Objective, Scalar, model_inputs

_PART = 4096.0  # of a count that travels between processes
DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}  # of the parameters


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a stepper works on.

    ``inputs`` say how a batch's inputs become the model's; ``config.precision`` is no longer "auto"."""

    model: nn.Module
    objective: Objective
    inputs: tuple[Input, ...]
    config: Config
    device: torch.device
    group: Group
    steps: int  # descent steps that the run will have


@dataclasses.dataclass(frozen=True)
class Share:
    """How much a batch counts, over all processes together."""

    examples: int
    weight: float


@dataclasses.dataclass
class Reading:
    """Sums over the steps since the last reading, over all processes. ``loss`` is the sum of J times the weight,
    ``counts`` those of the objective, in its order."""

    counts: list[float]
    loss: float = 0.0
    weight: float = 0.0
    examples: int = 0
    stop: bool = False  # some process was asked to stop

    @property
    def mean_loss(self) -> float:
        return self.loss / self.weight if self.weight else 0.0


class Stepper(ABC):
    """One descent step after another: ``step`` computes loss and gradients of a batch and moves the parameters.

    The loss and what the objective counts come from the one forward pass and stay on the device until ``read``. A
    subclass gives ``loss_and_gradients``.
    """

    name: str
    reads_every = 1  # steps between readings; a GPU would have to wait at every reading

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.objective = assignment.objective
        self.device = assignment.device
        self.model = assignment.model.to(
            device=assignment.device, dtype=DTYPES.get(assignment.config.precision, torch.float32)
        )
        assignment.group.same_start(self.model)
        self.parameters = self.flatten()
        self.descent = Descent(assignment.config, self.parameters, capturable=self.capturable)
        self.wants_to_stop = False
        # On a CPU reading a number costs nothing, and adding it up in Python is cheaper than three tensor operations.
        self._reads_at_once = assignment.device.type == "cpu"
        self._now = self._empty()
        # The loss, the wish to stop, the counts: what travels behind the gradients when several processes add up.
        numbers = len(self.objective.counts) + 2
        assert 2 * numbers <= EXTRA + 2, f"{numbers - 2} counts, more than travel with the gradients"
        self._sums = torch.zeros(numbers, dtype=torch.float64, device=assignment.device)

    capturable = False
    whole = 0.0  # the weight of the batch under way, over all processes
    scaled = False  # whether gradients are already those of this process's part of the whole batch's loss

    def flatten(self) -> FlatParameters:
        """The model's parameters in one buffer, laid out as the engine likes them."""
        return FlatParameters(self.model)

    @abstractmethod
    def loss_and_gradients(self, batch: Batch, seed: int) -> tuple[Scalar, Sequence[Scalar]]:
        """J (mean over the batch's weight) and the objective's counts, as scalars; ∂J/∂w into
        ``parameters.gradients``. The batch is on the device. All chance (dropout) is from ``seed``."""

    def step(self, batch: Batch, seed: int, rate: float, whole: Share) -> None:
        """One descent step at learning rate ``rate`` on ``batch``, this process's share of the ``whole``."""
        self.descent.set_rate(rate)
        self.whole = whole.weight
        if batch.examples or self.scaled:
            loss, counts = self.loss_and_gradients(batch, seed)
        else:  # nothing to do but to hear what the others found
            loss, counts = 0.0, [0.0] * len(self.objective.counts)
        self._count(loss, counts, batch.weight, whole)
        self.descent.apply()

    def _count(self, loss: Scalar, counts: Sequence[Scalar], own: Scalar, whole: Share) -> None:
        """Note the step's figures, and put the gradients of all processes together."""
        self._now.examples += whole.examples
        self._now.weight += whole.weight
        if self.assignment.group.world > 1:
            self._add_processes(loss, counts, float(own), whole.weight)
        elif self._reads_at_once:
            self._now.loss += float(loss) * float(own)
            for place, value in enumerate(counts):
                self._now.counts[place] += float(value)
        else:
            self._add_on_device(loss, counts, own)

    def _add_processes(self, loss: Scalar, counts: Sequence[Scalar], own: float, whole: float) -> None:
        """One exchange for gradients and figures. Counts travel as a multiple of ``_PART`` and a rest: float32 has all
        whole numbers up to 2²⁴ only, which the pixels of a few hundred maps pass; so all up to 2³⁶ arrive whole."""
        extra = self.parameters.extra[: 2 * len(counts) + 2]
        extra[0] = loss * own if own else 0.0  # a mean over nothing is no number
        extra[1] = float(self.wants_to_stop)
        for place, value in enumerate(counts, 1):
            multiple = value // _PART
            extra[2 * place], extra[2 * place + 1] = multiple, value - multiple * _PART
        self.assignment.group.add_up(self.parameters, whole if self.scaled else own, whole)
        summed = extra.double()
        self._sums[0] += summed[0]
        self._sums[1:-1] += summed[2::2] * _PART + summed[3::2]
        self._sums[-1] += summed[1]

    def _add_on_device(self, loss: Scalar, counts: Sequence[Scalar], own: Scalar) -> None:
        self._sums[0] += loss * own
        for place, value in enumerate(counts, 1):
            self._sums[place] += value

    def read(self) -> Reading:
        """The sums since the last reading; waits for the device."""
        reading, self._now = self._now, self._empty()
        reading.stop = self.wants_to_stop
        if not self._reads_at_once or self.assignment.group.world > 1:
            reading.loss, *reading.counts, asked = self._sums.tolist()
            reading.stop = asked > 0 if self.assignment.group.world > 1 else self.wants_to_stop
            self._sums.zero_()
        return reading

    def _empty(self) -> Reading:
        return Reading([0.0] * len(self.objective.counts))

    def outputs(self, inputs: Sequence[Tensor]) -> Any:
        """The model's outputs for a batch's inputs, in the mode that it is in; for evaluation, without gradients."""
        return self.model(*self.model_inputs(inputs))

    def model_inputs(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The model's own inputs from a batch's."""
        return model_inputs(self.assignment.inputs, inputs, self.parameters.values.dtype)

    def close(self) -> None:  # noqa: B027 (most engines hold nothing)
        """Give back what the engine holds; the model stays usable."""


def reseed(seed: int, device: torch.device) -> None:
    """Set torch's generators, which dropout draws from. torch.manual_seed would do more than is needed, 20 µs of it."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
