"""What an experiment is: a published result, one command that reproduces it, and a report with both figures."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from convscope.errors import ArgumentError, UnknownNameError
from convscope.files import write_text
from convscope.registry import Registry
from convscope.training.events import Listener


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where an experiment reads and writes, and how it trains.

    ``changes`` override the experiment's training settings by name (e.g. ``{"epochs": 2}``); a report then says so.
    """

    out: Path
    root: str | None = None
    seed: int = 0
    engine: str = "auto"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    listeners: Sequence[Listener] = ()


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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """``published`` names the result and where it is printed; ``run`` does the work inside ``setting.out``."""

    name: str
    title: str
    published: str
    run: Callable[[Setting], Report]


EXPERIMENTS: Registry[Experiment] = Registry("experiment", "convscope.experiments")


def register(name: str, title: str, published: str) -> Callable[[Callable[[Setting], Report]], Experiment]:
    """Enrol the decorated ``run(setting) → Report`` under ``name``."""
    return lambda run: EXPERIMENTS.add(name, Experiment(name, title, published, run))


def run_experiment(name: str, setting: Setting) -> Report:
    """Run one experiment; writes ``report.json`` and ``report.md`` beside its pictures and returns the report.

    Raises UnknownNameError for an unknown experiment and ArgumentError when ``setting.out`` cannot be written.
    """
    experiment = EXPERIMENTS[name]
    try:
        setting.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ArgumentError("out", str(setting.out), f"a folder that can be written ({problem.strerror})") from problem
    report = experiment.run(setting)
    content = {"experiment": name, "machine": machine(), "changes": dict(setting.changes), **dataclasses.asdict(report)}
    write_text(setting.out / "report.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(setting.out / "report.md", markdown(experiment, report, setting))
    return report


def settings(recipe: Mapping[str, Any], setting: Setting, name: str) -> dict[str, Any]:
    """The training settings of one run: the recipe, the user's changes, and a run folder of its own below ``out``."""
    for change in setting.changes:
        if change in ("run_dir", "seed", "engine"):
            raise UnknownNameError("change", change, set(recipe) | {"epochs", "batch_size", "learning_rate"})
    return {
        **recipe,
        **setting.changes,
        "seed": setting.seed,
        "engine": setting.engine,
        "run_dir": str(setting.out / name),
    }


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
