"""Doing one stage, in this process or in a worker's."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from numpy import random as numpy_random  # here: its first import swallows what a signal raises

from convscope import seeding
from convscope.errors import ConvscopeError
from convscope.tasks.stages.events import JobEvent, StageFinished, StageStarted
from convscope.tasks.stages.folder import StageError, StageFolder
from convscope.tasks.stages.stage import Here, Outcome, Stage


def perform(
    stage: Stage,
    job: Path,
    earlier: Mapping[str, Outcome],
    threads: int,
    tell: Callable[[JobEvent], object],
    process: int | None = None,
) -> Outcome:
    """Do ``stage`` in its folder below ``job``, from the start or where it was left, and write its result.

    ``threads`` is for a stage begun now; one begun before keeps its own. Raises StageError for whatever convscope
    refuses; KeyboardInterrupt, SystemExit and foreign errors go on up.
    """
    folder = StageFolder(job, stage.name)
    resumed = folder.record is not None
    if not resumed:
        folder.begin(stage.settings, threads, {name: outcome.fingerprint for name, outcome in earlier.items()})
    assert folder.record is not None
    threads = folder.record["threads"]
    tell(StageStarted(stage.name, resumed, process))
    begun = time.monotonic()
    here = Here(stage, folder.path, earlier, threads, tell)
    try:
        with _surroundings(stage, threads):
            values = stage.work(here)
        seconds = time.monotonic() - begun
        folder.finish(values, seconds)
    except StageError:
        raise
    except ConvscopeError as problem:
        raise StageError(stage.name, str(problem)) from problem
    tell(StageFinished(stage.name, seconds))
    return outcome_of(folder)


def outcome_of(folder: StageFolder) -> Outcome:
    """The result that a finished stage's folder holds."""
    assert folder.record is not None
    result = folder.record["result"]
    return Outcome(folder.name, folder.path, result["fingerprint"], result["seconds"])


@contextlib.contextmanager
def _surroundings(stage: Stage, threads: int) -> Iterator[None]:
    """The stage's number of threads, and global random numbers that do not depend on what ran before it."""
    before = torch.get_num_threads(), random.getstate(), numpy_random.get_state()
    seed = seeding.derive(0, "stage", stage.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        numpy_random.seed(seed % 2**32)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            random.setstate(before[1])
            numpy_random.set_state(before[2])
