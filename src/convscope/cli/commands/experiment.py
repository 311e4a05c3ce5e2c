"""``convscope experiment``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from convscope.cli.options import parse_pairs


@click.command()
@click.argument("name", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write. [default: experiments/NAME]"
)
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="DIR", help="Folder that holds a folder for each data set."
)
@click.option("--seed", type=int, default=0, show_default=True, help="All chance derives from it.")
@click.option("--engine", default="auto", show_default=True, metavar="NAME", help="auto, native, torch or rules.")
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Train with another setting than the experiment's, e.g. epochs=2; the report says so. May be repeated.",
)  # fmt: skip
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processor threads of each training; as many trainings run side by side as then fit. [default: the "
    "experiment's own choice]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="So many stages side by side, whether they fit or not; 1: one after another. The figures are the same.",
)
@click.option(
    "--redo",
    multiple=True,
    metavar="STAGE|changed",
    help="Make this stage anew, with what follows from it; 'changed': all whose settings are no longer those of the "
    "folder. May be repeated.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the report only.")
def command(
    name: str | None,
    out: Path | None,
    root: Path | None,
    seed: int,
    engine: str,
    pairs: Sequence[str],
    threads: int | None,
    workers: int | None,
    redo: Sequence[str],
    quiet: bool,
) -> None:
    """Reproduce a published result: train, measure, and print our figure beside the published one.

    Without NAME the experiments are listed. A report (Markdown and JSON) and pictures go into the folder. Called again
    after an interruption or a kill it goes on where it was; called again when all is done it prints the report.

    \b
    Examples:
      convscope experiment
      convscope experiment lenet5_mnist
      convscope experiment slides_cifar10 --out results/slides --seed 1
      convscope experiment lenet5_mnist --set epochs=2
    """
    from convscope.experiments import EXPERIMENTS, Setting, run_experiment

    if name is None:
        for known in EXPERIMENTS:
            click.echo(f"{known}\n    {EXPERIMENTS[known].title}; published: {EXPERIMENTS[known].published}")
        return
    _ = EXPERIMENTS[name]  # an unknown name is said before anything is made
    folder = out if out is not None else Path("experiments") / name

    import sys

    from rich.console import Console

    from convscope.cli.job_progress import JobDisplay

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=200)
    setting = Setting(
        out=folder,
        root=str(root.absolute()) if root is not None else None,
        seed=seed,
        engine=engine,
        changes=parse_pairs(pairs, "--set"),
        threads=threads,
    )
    with JobDisplay(console, quiet) as display:
        run_experiment(name, setting, workers=workers, redo=redo, listeners=[display])
    click.echo((folder / "report.md").read_text(encoding="utf-8"))
