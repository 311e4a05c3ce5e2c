"""Jobs: stages in sub-folders of one folder. Finished ones are loaded, begun ones go on, the others are done."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.errors import ArgumentError, UnknownNameError
from convscope.files import InUseError, clear_unfinished, locked
from convscope.tasks.stages import events
from convscope.tasks.stages.folder import clear_discarded
from convscope.tasks.stages.interrupts import Interrupts
from convscope.tasks.stages.planning import Plan
from convscope.tasks.stages.stage import Outcome, Stage
from convscope.tasks.stages.work import perform
from convscope.tasks.stages.workers import Crew
from convscope.tensorfile import explain

LOCK = "lock"


@dataclasses.dataclass(frozen=True)
class Job:
    """A job by the name of the function that lists its stages, "package.module:function", and JSON arguments: what a
    worker process needs to know. The function is called in every worker, so it should only describe: data are best
    loaded by the stages' work."""

    function: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, function: Callable[..., Sequence[Stage]], **arguments: Any) -> Job:
        """ArgumentError for a function that no other process can find: a lambda, an inner one, one of a script."""
        module, name = function.__module__, function.__qualname__
        if module == "__main__" or not name.isidentifier():
            raise ArgumentError("function", f"{module}:{name}", "a function at the top level of a module")
        return cls(f"{module}:{name}", arguments)

    def stages(self) -> list[Stage]:
        module, _, name = self.function.partition(":")
        return list(getattr(importlib.import_module(module), name)(**self.arguments))


def run_job(
    job: Job | Sequence[Stage],
    folder: str | Path,
    *,
    workers: int | None = None,
    redo: str | Sequence[str] = (),
    listeners: Sequence[events.JobListener] = (),
    resume_command: str = "",
) -> dict[str, Outcome]:
    """Do all stages of ``job`` in ``folder`` and return their results by name. Called again after a kill at any moment
    it goes on, and ends with the bits of an undisturbed call; called again when all is done it only reads.

    A ``Job`` runs independent stages side by side, in as many processes as the processors allow or ``workers`` says;
    stages given as a list run one after another in this process. Either way the results are the same, bit for bit.
    ``redo`` names stages to make anew with all that follows from them; "changed" stands for those whose settings are no
    longer the folder's. ``resume_command`` is what a person types to go on.

    Ctrl-C and SIGTERM let trainings under way save a checkpoint; then KeyboardInterrupt or SystemExit goes on up.
    Raises StageError, naming the stage, for other settings than the folder's, for a result made from another earlier
    result, and for whatever goes wrong in a stage; ArgumentError for a folder that another process works in.
    """
    stages = job.stages() if isinstance(job, Job) else list(job)
    check_stages(stages)
    count, reason = _worker_count(workers, stages, isinstance(job, Job))
    folder = Path(folder).expanduser().absolute()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        hint = "Stages run side by side by themselves (workers=)"
        raise ArgumentError(
            "WORLD_SIZE", os.environ["WORLD_SIZE"], "a job of stages started once, not by torchrun", hint
        )
    resume = resume_command or f"the same call with the folder {folder}"

    def tell(event: events.JobEvent) -> None:
        for listener in listeners:
            listener(event)

    begun = time.monotonic()
    with _held(folder) as lock:
        plan = Plan(stages, folder, (redo,) if isinstance(redo, str) else tuple(redo), tell)
        tell(events.JobStarted(folder, tuple(stage.name for stage in stages), count, reason))
        with Interrupts() as signals, contextlib.ExitStack() as stack:
            crew = None
            if isinstance(job, Job) and count > 1:
                crew = Crew(job.function, dict(job.arguments), folder, lock, tell)
                stack.callback(crew.close)
            runner = _Runner(stages, folder, plan, crew, count, workers is None, tell, signals)
            try:
                outcomes = runner.run()
            except (KeyboardInterrupt, SystemExit) as stop:
                name = "SIGINT" if isinstance(stop, KeyboardInterrupt) else "SIGTERM"
                if name == "SIGTERM" and stop.args != (128 + signal.SIGTERM,):
                    raise
                under_way = runner.under_way()
                stack.close()
                tell(events.JobInterrupted(name, under_way, resume))
                if name == "SIGINT":
                    raise KeyboardInterrupt(f"the job was interrupted; to go on: {resume}") from None
                raise
        tell(events.JobFinished(folder, time.monotonic() - begun))
    return outcomes


@dataclasses.dataclass
class _Runner:
    """The order of work: every stage as soon as those before it are there and there is room."""

    stages: Sequence[Stage]
    folder: Path
    plan: Plan
    crew: Crew | None
    workers: int
    by_cores: bool  # room is counted in processors, else in workers
    tell: Callable[[events.JobEvent], None]
    signals: Interrupts

    def __post_init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.here: str | None = None  # the stage under way in this process

    def under_way(self) -> tuple[str, ...]:
        return (*(() if self.here is None else (self.here,)), *(() if self.crew is None else self.crew.running))

    def run(self) -> dict[str, Outcome]:
        pending = list(self.stages)
        while pending or self._busy():
            done = self._load(pending) or self._work(pending)
            pending = [stage for stage in pending if stage.name not in done]
        return {stage.name: self.outcomes[stage.name] for stage in self.stages}

    def _busy(self) -> bool:
        return self.crew is not None and bool(self.crew.running)

    def _work(self, pending: Sequence[Stage]) -> set[str]:
        """Do a stage here, or start workers and hear them; the stages that are begun or done."""
        ready = [stage for stage in pending if all(name in self.outcomes for name in stage.after)]
        alone = self.crew is None or len(ready) == 1 or (bool(ready) and ready[0].threads is None)
        if ready and alone and not self._busy():
            self._do(ready[0])
            return {ready[0].name}
        assert self.crew is not None
        started = set()
        for stage in filter(self._room_for, ready):
            self.crew.start(stage.name, self.plan.threads(stage))
            started.add(stage.name)
        for name in self.crew.wait():
            self.outcomes[name] = self.plan.finished(name)
        self.signals.heed()
        return started

    def _load(self, pending: Sequence[Stage]) -> set[str]:
        """Take over the results that are there already."""
        loaded = set()
        for stage in pending:
            if all(name in self.outcomes for name in stage.after):
                outcome = self.plan.settle(stage, {name: self.outcomes[name] for name in stage.after})
                if outcome is not None:
                    self.outcomes[stage.name] = outcome
                    loaded.add(stage.name)
        return loaded

    def _do(self, stage: Stage) -> None:
        self.here = stage.name
        earlier = {name: self.outcomes[name] for name in stage.after}

        def tell(event: events.JobEvent) -> None:
            self.tell(event)
            self.signals.heed()

        with self.signals.raised():
            self.outcomes[stage.name] = perform(stage, self.folder, earlier, self.plan.threads(stage), tell)
        self.here = None

    def _room_for(self, stage: Stage) -> bool:
        assert self.crew is not None
        threads = {each.name: each.threads for each in self.stages}
        taken = [threads[name] for name in self.crew.running]
        if stage.threads is None or None in taken or len(taken) >= self.workers:
            return not taken
        used = sum(each for each in taken if each is not None)
        return not taken or not self.by_cores or used + stage.threads <= cores()


def check_stages(stages: Sequence[Stage]) -> None:
    """Raise ArgumentError for stages whose names or order cannot work."""
    if not stages:
        raise ArgumentError("stages", "none", "at least one stage")
    seen: set[str] = set()
    for stage in stages:
        if stage.name in seen or stage.name == LOCK:
            raise ArgumentError("stages", stage.name, "names that occur once" if stage.name in seen else "another name")
        for name in stage.after:
            if name not in seen:
                raise UnknownNameError(f"after of stage {stage.name!r} (a stage before it)", name, seen)
        seen.add(stage.name)
    for name in seen:
        for other in seen:
            if other.startswith(name + "/"):
                raise ArgumentError("stages", other, f"a folder that does not lie in stage {name!r}'s")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _worker_count(wanted: int | None, stages: Sequence[Stage], importable: bool) -> tuple[int, str]:
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1):
        raise ArgumentError("workers", wanted, "an integer ≥ 1 or None")
    if not importable:
        if wanted is not None and wanted > 1:
            hint = "A Job names the function that lists them, which workers can call"
            raise ArgumentError("workers", wanted, "1 for stages given as a list", hint)
        return 1, "stages given as a list run one after another"
    if wanted is not None:
        return wanted, "as asked for"
    small = [stage.threads for stage in stages if stage.threads is not None]
    if len(small) < 2:
        return 1, "there are no two stages that leave room for each other"
    return max(1, min(len(small), cores() // min(small))), f"{cores()} processors"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[int]:
    """The folder, made where it is missing, for this call alone; leftovers of killed calls removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ArgumentError("folder", str(folder), f"a folder that can be written ({explain(problem)})") from problem
    try:
        with locked(folder / LOCK) as lock:
            clear_discarded(folder)
            clear_unfinished(folder)
            yield lock
    except InUseError as problem:
        raise ArgumentError(
            "folder", str(folder), f"a folder that no other call works in (process {problem.holder} does)"
        ) from None
