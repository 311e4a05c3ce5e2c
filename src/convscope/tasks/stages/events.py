"""What a job of several stages tells while it runs; it prints nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class JobEvent:
    """Base of all events of a job."""


@dataclasses.dataclass(frozen=True)
class JobStarted(JobEvent):
    """The folder is held and the settings agree. ``workers`` is how many stages may run side by side."""

    folder: Path
    stages: tuple[str, ...]
    workers: int
    reason: str  # why so many workers


@dataclasses.dataclass(frozen=True)
class StageLoaded(JobEvent):
    """It was finished before, and its files are whole."""

    stage: str


@dataclasses.dataclass(frozen=True)
class StageRedone(JobEvent):
    """What the folder holds of a stage is not used: ``reason`` says why."""

    stage: str
    reason: str


@dataclasses.dataclass(frozen=True)
class StageStarted(JobEvent):
    """``resumed``: it was begun before and goes on. ``process`` is the worker's number, None in this process."""

    stage: str
    resumed: bool
    process: int | None = None


@dataclasses.dataclass(frozen=True)
class StageTold(JobEvent):
    """An event of the stage's training, as JSON values like a line of events.jsonl; of single batches ten a second."""

    stage: str
    event: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StageProgress(JobEvent):
    """How far the work of a stage is, as itself tells: ``share`` from 0 to 1."""

    stage: str
    share: float
    text: str


@dataclasses.dataclass(frozen=True)
class StageFinished(JobEvent):
    stage: str
    seconds: float  # of this call's work


@dataclasses.dataclass(frozen=True)
class JobInterrupted(JobEvent):
    """A signal came; trainings under way have saved a checkpoint. ``resume`` is what to type to go on."""

    signal: str
    stages: tuple[str, ...]  # those under way
    resume: str


@dataclasses.dataclass(frozen=True)
class JobFinished(JobEvent):
    folder: Path
    seconds: float


JobListener = Callable[[JobEvent], None]
