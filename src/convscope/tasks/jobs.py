"""Models whose training is a job of several stages: what ``convscope train NAME`` does for them."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from convscope.data import Dataset, load_dataset
from convscope.errors import ArgumentError, CheckpointError
from convscope.registry import Registry
from convscope.tasks.stages import Job, JobListener, Outcome, Stage, run_job
from convscope.tensorfile import read_json, write_text
from convscope.training.config import Config
from convscope.training.run_folder import new_run_dir
from convscope.training.task import NoSettings, checked_settings

_ASKED = "job.json"
_OWN = ("run_dir", "resume", "seed", "engine", "threads", "settings")  # of Config: the job's, not one training's
Outcomes = Mapping[str, Outcome]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person asked for, in JSON values: the data set by name or path, the job's own ``settings``, ``changes`` to
    the training settings of all its stages, seed, engine, and threads of each training (None: as the job has it)."""

    data: str
    root: str | None = None
    data_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    engine: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in _OWN:
            if name in self.changes:
                raise ArgumentError(name, self.changes[name], "nothing: the job decides that for its stages")
        Config.of(**self.changes)

    def dataset(self) -> Dataset[Any]:
        """The data set; the last one stays in memory for the next stage."""
        return _loaded(self.data, self.root, json.dumps(dict(self.data_options), sort_keys=True))


@functools.lru_cache(maxsize=1)
def _loaded(name: str, root: str | None, options: str) -> Dataset[Any]:
    return load_dataset(name, root=root, **json.loads(options))


@dataclasses.dataclass(frozen=True)
class Finished:
    """``model`` is the file of the whole model, ``figures`` what was measured, ``lines`` say it in words."""

    model: Path
    figures: Mapping[str, Any]
    lines: Sequence[str]


class TrainingJob(ABC):
    """``name`` is what ``convscope train`` knows it by; ``Settings`` its page, given as KEY=VALUE."""

    name: ClassVar[str]
    Settings: ClassVar[type[Any]] = NoSettings

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.settings: Any = checked_settings(self.name, self.Settings, asked.settings)

    @abstractmethod
    def stages(self) -> list[Stage]:
        """What is to be done; data are loaded by the stages' work, not here."""

    @abstractmethod
    def finish(self, folder: Path, outcomes: Outcomes) -> Finished:
        """Write the model and whatever people look at into ``folder``, from the results alone."""


JOBS: Registry[type[TrainingJob]] = Registry("job", "convscope.tasks", in_own_modules=True)


def register(job: type[TrainingJob]) -> type[TrainingJob]:
    """Enrol a job, as a decorator of its class."""
    return JOBS.add(job.name, job)


def run_training_job(
    name: str,
    asked: Asked,
    folder: str | Path | None = None,
    *,
    workers: int | None = None,
    redo: Sequence[str] = (),
    listeners: Sequence[JobListener] = (),
) -> Finished:
    """Train ``name`` stage by stage in ``folder`` (None: runs/<name>-<data>-<number>), or go on where it was left.

    Raises UnknownNameError for another name, and what ``run_job`` raises.
    """
    made = JOBS[name](asked)
    place = new_run_dir(name, Path(asked.data).name) if folder is None else Path(folder)
    place = place.expanduser().absolute()
    described = dataclasses.asdict(asked)
    if redo or not (place / _ASKED).is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / _ASKED, json.dumps({"job": name, "asked": described}, ensure_ascii=False) + "\n")
    outcomes = run_job(
        Job.of(stages_of, name=name, asked=described),
        place,
        workers=workers,
        redo=redo,
        listeners=listeners,
        resume_command=f"convscope train --resume {shlex.quote(str(place))}",
    )
    return made.finish(place, outcomes)


def stages_of(name: str, asked: Mapping[str, Any]) -> list[Stage]:
    """The stages of a job, from JSON values: how worker processes find theirs."""
    return JOBS[name](Asked(**asked)).stages()


def asked_in(folder: str | Path) -> tuple[str, Asked] | None:
    """The name of the job that ``folder`` was begun with, and what was asked for; None where it holds no job.

    CheckpointError for a damaged note.
    """
    path = Path(folder) / _ASKED
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        return str(found["job"]), Asked(**found["asked"])
    except (KeyError, TypeError) as problem:
        raise CheckpointError(path, f"damaged ({problem!r})") from problem
