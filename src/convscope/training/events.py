"""What a training run tells while it runs. The loop yields these and prints nothing; progress bars, the run folder and
the explorer listen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from convscope.displays import Shown
from convscope.training.config import Config
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class Event:
    """Base of all events: dataclasses whose fields can also be read as ``event["epoch"]`` and listed by ``keys()``."""

    def keys(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self)]

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)


@dataclasses.dataclass(frozen=True)
class RunStarted(Event):
    """Everything is prepared; the first batch comes next. ``reason`` says why this engine was chosen.

    ``noun`` is what an example is called in sentences ("pictures"), ``unit`` in tables ("images"); ``shares`` names the
    figures that are read as per cent.
    """

    run_dir: Path
    task: str
    model: str
    data: str
    parameters: int  # trained numbers
    train_examples: int
    test_examples: int
    noun: str
    unit: str
    shares: tuple[str, ...]
    epochs: int
    steps: int  # descent steps in all
    engine: str
    device: str
    reason: str
    processes: int
    resumed_at: int  # steps already done; 0 for a fresh run


@dataclasses.dataclass(frozen=True)
class CheckpointRefused(Event):
    """A damaged checkpoint was met while resuming; the one before it is tried."""

    path: Path
    problem: str


@dataclasses.dataclass(frozen=True)
class RateLeaps(Event):
    """A run goes on with another number of steps than it was begun with, and its schedule spans them all: the learning
    rate goes on from ``after``, where it was ``before``."""

    step: int  # done so far
    before: float  # in the last step
    after: float  # in the next
    schedule: str
    planned: int  # steps that the schedule spanned
    steps: int  # that it spans now


@dataclasses.dataclass(frozen=True)
class EpochStarted(Event):
    epoch: int  # from 1
    batches: int
    first_batch: int  # from 0; above 0 only in an epoch that is resumed in its middle
    learning_rate: float


class _Figured(Event):
    """An event with figures, which are also read as ``event.train_loss`` and ``event["train_loss"]``."""

    def row(self) -> dict[str, Any]:
        raise NotImplementedError

    def keys(self) -> list[str]:
        return list(self.row())

    def __getitem__(self, name: str) -> Any:
        return self.row()[name]

    def __getattr__(self, name: str) -> Any:  # fields are found before this is asked
        if name.startswith("__") or name not in (row := self.row()):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return row[name]


@dataclasses.dataclass(frozen=True)
class BatchDone(_Figured):
    """One descent step. ``figures`` (the loss first, then what the task counts) are means over the epoch so far, as
    last read: a GPU's are read a few times a second only, because every reading would make it wait."""

    epoch: int
    batch: int  # batches done in this epoch
    batches: int
    step: int  # steps done in all
    examples: int  # done in this epoch
    figures: Mapping[str, float]
    unit: str  # what an example is called
    per_second: float  # examples, over this epoch so far, in this process's clock
    learning_rate: float

    def row(self) -> dict[str, Any]:
        """The figures by their names, the number of examples as <unit> and the speed as <unit>_per_second."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "batches": self.batches,
            "step": self.step,
            self.unit: self.examples,
            **self.figures,
            f"{self.unit}_per_second": self.per_second,
            "learning_rate": self.learning_rate,
        }


@dataclasses.dataclass(frozen=True)
class EpochDone(_Figured):
    """One row of the history. Test figures are None in an epoch that was not evaluated."""

    epoch: int
    step: int
    learning_rate: float  # of the last step
    train: Mapping[str, float]  # means over the epoch, measured while the weights were changing; the loss first
    test: Mapping[str, float | None]
    unit: str  # what an example is called
    per_second: float  # examples, training alone, without evaluation
    seconds: float  # training and evaluation of this epoch

    def row(self) -> dict[str, Any]:
        """As a line of history.csv: train_… and test_… by name, and the speed as <unit>_per_second."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.learning_rate,
            **{f"train_{name}": value for name, value in self.train.items()},
            **{f"test_{name}": value for name, value in self.test.items()},
            f"{self.unit}_per_second": self.per_second,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> EpochDone:
        """From ``row()``. KeyError or StopIteration for a mapping that is none."""
        speed = next(name for name in row if name.endswith("_per_second"))
        return cls(
            epoch=row["epoch"],
            step=row["step"],
            learning_rate=row["learning_rate"],
            train={name.removeprefix("train_"): row[name] for name in row if name.startswith("train_")},
            test={name.removeprefix("test_"): row[name] for name in row if name.startswith("test_")},
            unit=speed.removesuffix("_per_second"),
            per_second=row[speed],
            seconds=row["seconds"],
        )


@dataclasses.dataclass(frozen=True)
class LayersWatched(Event):
    """What the layers did on a few fixed test examples after an epoch; see ``convscope.training.watching``."""

    epoch: int
    layers: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class CheckpointSaved(Event):
    path: Path
    epoch: int
    step: int


@dataclasses.dataclass(frozen=True)
class Converged(Event):
    """The loss has stopped falling: |ΔJ| stayed below the tolerance."""

    epoch: int
    change: float  # the last |ΔJ|
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Averaged(Event):
    """The model is now the mean of its parameters after these epochs; ``wanted`` were asked for."""

    epochs: tuple[int, ...]
    wanted: int


@dataclasses.dataclass(frozen=True)
class Interrupted(Event):
    """A signal came; the batch was finished and a checkpoint saved. ``resume`` is what to type to go on."""

    signal: str
    path: Path
    epoch: int
    step: int
    resume: str


@dataclasses.dataclass(frozen=True)
class Diverged(Event):
    """The loss is not a number or has exploded; a TrainingError with the same text follows."""

    epoch: int
    step: int
    loss: float
    message: str
    checkpoint: Path | None  # the last good one


class History(Shown, list[EpochDone]):
    """One EpochDone an epoch, which a notebook shows as curves and a table."""


@dataclasses.dataclass(frozen=True)
class Result(Shown):
    """``history`` has one EpochDone an epoch, ``metrics`` are the task's figures on the test examples at the end.
    ``stopped`` is "epochs", "max_steps" or "converged"."""

    model: nn.Module = dataclasses.field(repr=False)
    task: str
    history: list[EpochDone]
    metrics: Figures
    run_dir: Path
    config: Config
    stopped: str
    seconds: float  # from the first batch to the end, this process

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", History(self.history))


@dataclasses.dataclass(frozen=True)
class RunFinished(Event):
    """The run has come to its end; the model is saved."""

    result: Result


Listener = Callable[[Event], None]


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values, with its type's name under "event"; numbers that are none as None."""
    content = {name: _plain(event[name]) for name in event.keys() if name != "result"}  # noqa: SIM118
    return {"event": type(event).__name__, **content}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value
