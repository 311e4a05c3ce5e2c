"""What an experiment is: a published result, one command that reproduces it, and a report with both figures."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from convscope.data import Dataset, load_dataset
from convscope.errors import UnknownNameError
from convscope.files import write_text
from convscope.registry import Registry
from convscope.tasks import RunPictures
from convscope.tasks.stages import Job, JobEvent, JobListener, Outcome, Stage, run_job, training
from convscope.tasks.stages.events import StageFinished, StageRedone
from convscope.training.config import Config

_REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where an experiment reads and writes, and how it trains.

    ``changes`` override the experiment's training settings by name (e.g. ``{"epochs": 2}``); a report then says so.
    ``threads`` is how many each training takes; None leaves that to the experiment.
    """

    out: Path
    root: str | None = None
    seed: int = 0
    engine: str = "auto"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threads: int | None = None

    def __post_init__(self) -> None:
        for change in self.changes:
            if change in ("run_dir", "seed", "engine", "threads", "resume"):
                known = {field.name for field in dataclasses.fields(Config)}
                raise UnknownNameError("change", change, known - {"run_dir", "seed", "engine", "threads", "resume"})


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure: what was measured, ours, the published one (None where there is none) and the unit of both."""

    what: str
    ours: float
    published: float | None
    unit: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """The figures of one run of an experiment and the pictures it drew (file names inside the setting's folder)."""

    rows: list[Row]
    pictures: list[str]
    recipe: dict[str, Any]


Outcomes = Mapping[str, Outcome]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """``published`` names the result and where it is printed; ``stages`` lists what is to be done, and ``report`` reads
    the figures from what came of it and draws the pictures into ``setting.out``."""

    name: str
    title: str
    published: str
    stages: Callable[[Setting], list[Stage]]
    report: Callable[[Setting, Outcomes], Report]


EXPERIMENTS: Registry[Experiment] = Registry("experiment", "convscope.experiments")


def register(
    name: str, title: str, published: str, stages: Callable[[Setting], list[Stage]]
) -> Callable[[Callable[[Setting, Outcomes], Report]], Experiment]:
    """Enrol the decorated ``report(setting, outcomes) → Report`` with its ``stages`` under ``name``."""
    return lambda report: EXPERIMENTS.add(name, Experiment(name, title, published, stages, report))


def run_experiment(
    name: str,
    setting: Setting,
    *,
    workers: int | None = None,
    redo: Sequence[str] = (),
    listeners: Sequence[JobListener] = (),
) -> Report:
    """Run one experiment, or go on with it: stages that ``setting.out`` holds are not done again (see ``run_job``, also
    for ``workers``, ``redo`` and what is raised). Writes ``report.json`` and ``report.md`` beside the pictures and
    returns the report; when all was done before, these are left as they are.

    Raises UnknownNameError for an unknown experiment.
    """
    experiment = EXPERIMENTS[name]
    given = {field.name: getattr(setting, field.name) for field in dataclasses.fields(setting)}
    job = Job.of(
        stages_of, name=name, setting={**given, "out": str(setting.out.absolute()), "changes": {**setting.changes}}
    )
    worked: list[JobEvent] = []

    def note(event: JobEvent) -> None:
        if isinstance(event, StageFinished | StageRedone):
            worked.append(event)
            (setting.out / _REPORT).unlink(missing_ok=True)  # of results that are no longer the folder's

    outcomes = run_job(
        job,
        setting.out,
        workers=workers,
        redo=redo,
        listeners=[note, *listeners],
        resume_command=command(name, setting),
    )
    before = None if worked else _read_report(setting.out)
    if before is not None:
        return before
    report = experiment.report(setting, outcomes)
    content = {"experiment": name, "machine": machine(), "changes": dict(setting.changes), **dataclasses.asdict(report)}
    write_text(setting.out / "report.md", markdown(experiment, report, setting))
    write_text(setting.out / _REPORT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return report


def command(name: str, setting: Setting) -> str:
    """What a person types to go on with an experiment."""
    words = ["convscope", "experiment", name, "--out", str(setting.out)]
    words += ["--root", setting.root] if setting.root is not None else []
    words += ["--seed", str(setting.seed)] if setting.seed else []
    words += ["--engine", setting.engine] if setting.engine != "auto" else []
    words += ["--threads", str(setting.threads)] if setting.threads is not None else []
    for key, value in setting.changes.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def stages_of(name: str, setting: Mapping[str, Any]) -> list[Stage]:
    """The stages of an experiment, from JSON values: how workers find theirs."""
    return EXPERIMENTS[name].stages(Setting(**{**setting, "out": Path(setting["out"])}))


def trained(
    name: str,
    model: Any,
    data: str | Callable[[Outcomes], Any],
    recipe: Mapping[str, Any],
    setting: Setting,
    **more: Any,
) -> Stage:
    """A stage that trains by ``recipe`` and the user's changes, and draws the pictures of the run. ``data`` is a data
    set's name, looked up below ``setting.root``, or as for ``training``, with all of ``more``."""
    if isinstance(data, str):
        more["described"] = {"data": data, **more.get("described", {})}
        named = data
        data = lambda _: data_set(named, setting)  # noqa: E731
    own = more.pop("threads", None)
    threads = setting.threads or own
    return training(name, model, data, threads=threads, listeners=[RunPictures()], **more, **settings(recipe, setting))


@functools.lru_cache(maxsize=1)
def _loaded(name: str, root: str | None) -> Dataset:
    return load_dataset(name, root=root)


def data_set(name: str, setting: Setting) -> Dataset:
    """A data set below ``setting.root``; the last one stays in memory for the next stage."""
    return _loaded(name, setting.root)


def settings(recipe: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """The training settings of one run: the recipe, the user's changes, seed and engine."""
    return {**recipe, **setting.changes, "seed": setting.seed, "engine": setting.engine}


def _read_report(out: Path) -> Report | None:
    """The report that was written before, if it and its pictures are there."""
    try:
        found = json.loads((out / _REPORT).read_text(encoding="utf-8"))
        report = Report([Row(**row) for row in found["rows"]], found["pictures"], found["recipe"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return report if all((out / each).is_file() for each in [*report.pictures, "report.md"]) else None


def markdown(experiment: Experiment, report: Report, setting: Setting) -> str:
    """The report as a page: what was published, the table, the recipe and the machine."""
    lines = [f"# {experiment.title}", "", f"Published: {experiment.published}", ""]
    lines += ["| figure | ours | published | note |", "|---|---:|---:|---|"]
    for row in report.rows:
        published = "–" if row.published is None else f"{row.published:g} {row.unit}"
        lines.append(f"| {row.what} | {row.ours:.4g} {row.unit} | {published} | {row.note} |")
    lines += ["", *_recipe(report.recipe)]
    if setting.changes:
        lines.append("Changed by hand: " + ", ".join(f"{key} {value}" for key, value in setting.changes.items()))
    lines += [f"Seed {setting.seed}; " + ", ".join(f"{key} {value}" for key, value in machine().items()), ""]
    lines += [f"![{name}]({name})" for name in report.pictures]
    return "\n".join(lines) + "\n"


def _recipe(recipe: Mapping[str, Any]) -> list[str]:
    """The settings in a sentence; where there are several recipes by name, a list with one of them a line."""
    parts = {name: value for name, value in recipe.items() if isinstance(value, Mapping)}
    own = ", ".join(f"{key} {value}" for key, value in recipe.items() if key not in parts)
    if not parts:
        return [f"Recipe: {own}", ""]
    listed = [
        f"- {name}: " + ", ".join(f"{key} {value}" for key, value in part.items()) for name, part in parts.items()
    ]
    return ["Recipes" + (f": {own}" if own else ""), "", *listed, ""]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **gpu,
    }
