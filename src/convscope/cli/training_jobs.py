"""``convscope train`` for models whose training is a job of several stages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from convscope.cli.options import parse_pairs
from convscope.cli.requests import request, write_request

if TYPE_CHECKING:
    from convscope.tasks.jobs import Asked

_OWN = ("run_dir", "seed", "engine", "threads", "settings")


class Wanted(NamedTuple):
    """What the command line says that neither builds the model nor is a setting of the run."""

    data: str | None
    root: Path | None
    data_pairs: Sequence[str]
    task: str | None
    pictures: bool
    quiet: bool


def with_columns(settings: dict[str, Any], model: str | None, columns: int | None) -> dict[str, Any]:
    """``settings`` with what ``--columns`` says, which is mcdnn's own."""
    if columns is None:
        return settings
    if model != "mcdnn":
        raise click.UsageError("--columns is for mcdnn, which trains so many columns.")
    return {**settings, "settings": {**settings.get("settings", {}), "columns": columns}}


def train_job(name: str, wanted: Wanted, refused: bool, settings: Mapping[str, Any]) -> bool:
    """Begin the job ``name``, or go on with it where the folder holds it already; False where there is no such job.

    ``settings`` are those that the command's options say; ``refused``: there are others, which jobs do not take.
    """
    from convscope.tasks.jobs import JOBS, Asked

    if name not in JOBS:
        return False
    if refused:
        raise click.UsageError(f"{name} is trained in stages; give no --option, --weights, --freeze, --task.")
    assert wanted.data is not None
    place = request(wanted.data, wanted.root, wanted.data_pairs)
    asked = Asked(
        data=place["data"],
        root=place["root"],
        data_options=parse_pairs(wanted.data_pairs, "--data-option"),
        settings=settings.get("settings", {}),
        changes={key: value for key, value in settings.items() if key not in _OWN},
        seed=settings.get("seed", 0),
        engine=settings.get("engine", "auto"),
        threads=settings.get("threads"),
    )
    _run(name, asked, settings.get("run_dir"), wanted.quiet)
    return True


def resume_job(folder: Path, settings: Mapping[str, Any], quiet: bool) -> bool:
    """Go on with the job in ``folder``; False where it holds none."""
    from convscope.tasks.jobs import asked_in

    found = asked_in(folder)
    if found is None:
        return False
    if settings:
        raise click.UsageError(
            f"--resume goes on with {found[0]} as it was begun; give no other settings ({', '.join(settings)})."
        )
    _run(*found, str(folder), quiet)
    return True


def _run(name: str, asked: Asked, folder: str | None, quiet: bool) -> None:
    from rich.console import Console

    from convscope.cli.job_progress import JobDisplay
    from convscope.tasks.jobs import run_training_job

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=200)
    with JobDisplay(console, quiet) as display:
        finished = run_training_job(name, asked, folder, listeners=[display])
    pairs = [f"{key}={value}" for key, value in asked.data_options.items()]
    write_request(finished.model.parent, request(asked.data, None if asked.root is None else Path(asked.root), pairs))
    for line in finished.lines:
        click.echo(line)
