"""A task that is nothing like classification, to prove that the loop knows no label: a picture and three numbers go in,
two measurements come out, of which only some are known. J is a mean over the known ones, so that a batch's weight is
not its number of examples, and two things are counted."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.examples import Batch, Examples
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input, Preprocessing
from convscope.training import Config, Figures
from convscope.training.inference import prepare_inference
from convscope.training.preparing import description_of
from convscope.training.task import Examined, Objective, Prepared, Scalar, Task, model_inputs
from convscope.training.trying import two_examples

PIXELS = Preprocessing(1, (6, 5), (0.4,), (0.3,))
CLOSE = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Pictures uint8 (n, 1, 6, 5), numbers (n, 3), values (n, 2), known (n, 2)."""

    kind: ClassVar[str] = "measured"
    lengths: ClassVar[Tensor | None] = None
    on_disk: ClassVar[bool] = False
    pictures: Tensor
    numbers: Tensor
    values: Tensor
    known: Tensor
    alone: bool = False  # the picture is the only input

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, indices: Tensor) -> Batch:
        inputs = (self.pictures[indices],) if self.alone else (self.pictures[indices], self.numbers[indices])
        targets = {"values": self.values[indices], "known": (self.known[indices],)}
        return Batch(inputs, targets, len(indices), self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        return float(self.known[indices].sum())

    def select(self, indices: Tensor) -> Measured:
        pictures, numbers = self.pictures[indices], self.numbers[indices]
        return Measured(pictures, numbers, self.values[indices], self.known[indices], self.alone)

    def fingerprint(self, checksum: int = 0) -> int:
        return zlib.crc32(self.values.numpy().tobytes(), checksum)

    def describe(self) -> dict[str, Any]:
        return {"measurements": len(self)}


def dataset(count: int = 60, alone: bool = False) -> Dataset[Measured]:
    """The mean grey value, and a sum of the numbers; a third of the values are unknown (and absurd)."""
    chance = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (count, 1, 6, 5), generator=chance, dtype=torch.uint8)
    numbers = torch.randn(count, 3, generator=chance)
    first = PIXELS.normalise(pictures).mean((1, 2, 3)) * 4
    values = torch.stack((first, -first if alone else numbers.sum(1)), 1)
    known = torch.rand(count, 2, generator=chance) < 0.67
    known[:, 0] |= ~known.any(1)
    whole = Measured(pictures, numbers, torch.where(known, values, torch.tensor(1e6)), known, alone)
    return Dataset("measured", whole.select(torch.arange(count - 13)), whole.select(torch.arange(count - 13, count)))


class Net(nn.Module):
    def __init__(self, alone: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(1, 4, 3)
        self.flatten = nn.Flatten()
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(4 * 4 * 3 + (0 if alone else 3), 2)
        self.alone = alone

    def forward(self, picture: Tensor, numbers: Tensor) -> Tensor:
        seen = self.drop(self.flatten(torch.tanh(self.conv(picture))))
        outputs: Tensor = self.out(torch.cat((seen, numbers), 1))
        return outputs


class AloneNet(Net):
    def __init__(self) -> None:
        super().__init__(alone=True)

    def forward(self, picture: Tensor) -> Tensor:  # type: ignore[override]
        outputs: Tensor = self.out(self.drop(self.flatten(torch.tanh(self.conv(picture)))))
        return outputs


class MaskedSquares(Objective):
    """J = Σ k (y − t)² / Σ k over the known values k."""

    counts = ("known", "close")

    def _parts(self, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor, Tensor]:
        (known,) = targets["known"]
        difference = torch.where(known, outputs - targets["values"].to(outputs.dtype), torch.zeros_like(outputs))
        return difference, known, known.sum()

    def value(self, outputs: Tensor, targets: Any) -> Tensor:
        difference, _, count = self._parts(outputs, targets)
        return difference.square().sum() / count

    def value_and_delta(self, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
        difference, _, count = self._parts(outputs, targets)
        return difference.square().sum() / count, 2 * difference / count

    def count(self, outputs: Tensor, targets: Any) -> Sequence[Scalar]:
        difference, known, count = self._parts(outputs, targets)
        return count, ((difference.abs() < CLOSE) & known).sum()


@dataclasses.dataclass(frozen=True)
class MeasuringFigures(Figures):
    headline = "error"
    higher_is_better = False
    counted = "measurements"

    measurements: int
    loss: float
    error: float


class MeasuringTally:
    def __init__(self, objective: MaskedSquares) -> None:
        self.objective, self.loss, self.known, self.error = objective, 0.0, 0, 0.0

    def add(self, outputs: Tensor, batch: Batch) -> None:
        difference, _, count = self.objective._parts(outputs, batch.targets)
        self.loss += float(difference.square().sum())
        self.error += float(difference.abs().sum())
        self.known += int(count)

    def figures(self) -> MeasuringFigures:
        return MeasuringFigures(self.known, self.loss / self.known, self.error / self.known)


@dataclasses.dataclass(frozen=True)
class Reading:
    source: str
    values: tuple[float, ...]

    def line(self, most: int) -> str:
        return f"{self.source}: {self.values}"

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "values": self.values}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, *self.values)]

    def save(self, folder: Path) -> list[Path]:
        return []


@dataclasses.dataclass(frozen=True)
class MeasuringSettings:
    blur: float = 0.0
    careful: bool = False
    passes: int = 1


class Measuring(Task):
    """Two measurements of a picture and three numbers."""

    name = "measuring"
    kinds = ("measured",)
    unit = "measurements"
    noun = "measurements"
    history = ("loss", "error")
    Settings: ClassVar[type[Any]] = MeasuringSettings

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        alone = dataset.train.alone
        inputs = (Input("pictures", (1, 6, 5), PIXELS), *(() if alone else (Input("numbers", (3,)),)))
        described = description_of(model, (1, 6, 5) if alone else ((1, 6, 5), (3,)))
        if described is not None:
            answers = Answers("measurements", ("grey", "sum"))
            spec.attach(model, described.replace(task=self.name, inputs=inputs, answers=answers))
        return Prepared(dataset.train, dataset.test, (), (), inputs)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        batch = two_examples(prepared, torch.device("cpu"))
        with torch.no_grad():
            outputs = model(*model_inputs(prepared.inputs, batch.inputs, next(model.parameters()).dtype))
        if outputs.shape != (2, 2):
            raise ArgumentError("model", tuple(outputs.shape), "two measurements an example")

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        return MaskedSquares()

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> MeasuringTally:
        assert isinstance(objective, MaskedSquares)
        return MeasuringTally(objective)

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        described = spec.spec_of(model)
        assert described is not None
        return Examined(examples, (), described.inputs)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Reading]:
        described = spec.spec_of(model)
        assert described is not None
        inference = prepare_inference(model, described.inputs, engine, len(inputs[0]))
        told(inference)
        for place, row in enumerate(inference.outputs(inputs).tolist()):
            yield Reading(str(place), tuple(row))

    def summary(self, figures: Figures) -> str:
        return f"mean error {figures.error:.3f}"

    def report(self, figures: Figures) -> str:
        return self.summary(figures)
