"""What a training run tells while it runs. The loop yields these and prints nothing; progress bars, the run folder and
the explorer listen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.training.results import Result


class Fields:
    """A dataclass whose fields can also be read as ``event["train_loss"]`` and listed by ``keys()``."""

    def keys(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)


@dataclasses.dataclass(frozen=True)
class Event(Fields):
    """Base of all events."""


@dataclasses.dataclass(frozen=True)
class RunStarted(Event):
    """Everything is prepared; the first batch comes next. ``reason`` says why this engine was chosen."""

    run_dir: Path
    model: str
    data: str
    parameters: int  # trained numbers
    train_images: int
    test_images: int
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
class EpochStarted(Event):
    epoch: int  # from 1
    batches: int
    first_batch: int  # from 0; above 0 only in an epoch that is resumed in its middle
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class BatchDone(Event):
    """One descent step. ``loss`` and ``accuracy`` are means over the epoch so far, as last read: a GPU's are read a few
    times a second only, because every reading would make it wait."""

    epoch: int
    batch: int  # batches done in this epoch
    batches: int
    step: int  # steps done in all
    images: int  # pictures done in this epoch
    loss: float
    accuracy: float
    images_per_second: float  # over this epoch so far, in this process's clock
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class EpochDone(Event):
    """One row of the history. Test figures are None in an epoch that was not evaluated."""

    epoch: int
    step: int
    learning_rate: float  # of the last step
    train_loss: float  # means over the epoch, measured while the weights were changing
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None
    images_per_second: float  # training alone, without evaluation
    seconds: float  # training and evaluation of this epoch


@dataclasses.dataclass(frozen=True)
class LayersWatched(Event):
    """What the layers did on a few fixed test pictures after an epoch; see ``convscope.training.watching``."""

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


@dataclasses.dataclass(frozen=True)
class RunFinished(Event):
    """The run has come to its end; the model is saved."""

    result: Result


Listener = Callable[[Event], None]


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values, with its type's name under "event"."""
    content = {name: _plain(event[name]) for name in event.keys() if name != "result"}  # noqa: SIM118
    return {"event": type(event).__name__, **content}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
