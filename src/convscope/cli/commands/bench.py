"""``convscope bench``."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convscope.cli.options import parse_pairs

if TYPE_CHECKING:
    from convscope.native.benchmarking import Report, Row, Subject

CONTESTANTS = ("native", "accelerated", "eager", "channels_last", "compile", "bfloat16")


@click.command()
@click.argument("models", nargs=-1)
@click.option("-b", "--batch-size", "batch_sizes", multiple=True, type=click.IntRange(min=1), help="[default: 64, 256]")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Option of the models' builders, e.g. activation=tanh; may be repeated.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, type=click.Choice(CONTESTANTS), help="Time only these; may be repeated. [default: all]"
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every contestant. [default: as torch is set]")
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Turns that each one has.")
@click.option("--memory/--no-memory", default=False, help="Also the peak memory, each in a fresh process.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there, - for here."
)
def command(
    models: Sequence[str],
    batch_sizes: Sequence[int],
    pairs: Sequence[str],
    only: Sequence[str],
    threads: int | None,
    rounds: int,
    memory: bool,
    path: Path | None,
) -> None:
    """Time training steps of MODELS (names in the catalogue or saved files; default: lenet5): the native engine beside
    torch's ways.

    First the native gradients are compared with torch's in float64; where they differ nothing is timed. Then all take
    turns in one run. A step goes from uint8 pictures to moved parameters.

    \b
    Examples:
      convscope bench
      convscope bench lenet5_1998 mcdnn_column -b 64 --json bench.json
      convscope bench runs/lenet5-mnist-001/model.safetensors
      convscope bench resnet18 -b 16 --only native --only channels_last
    """
    from rich.console import Console

    from convscope.native.benchmarking import benchmark
    from convscope.tensorfile import write_text

    options = parse_pairs(pairs, "--option")
    subjects = [_subject(name, options) for name in models or ("lenet5",)]
    messages = Console(stderr=True)
    with messages.status("the machine's matrix products") as status:
        report = benchmark(
            subjects,
            batch_sizes or (64, 256),
            only or CONTESTANTS,
            rounds=rounds,
            threads=threads,
            measure_memory=memory,
            progress=status.update,
        )
    text = json.dumps(report.to_json(), indent=1)
    if path is not None and str(path) == "-":
        click.echo(text)
        return
    _print(report)
    if path is not None:
        write_text(path, text + "\n")
        click.echo(f"written {path}")


def _subject(name: str, options: Mapping[str, Any]) -> Subject:
    """A model of the catalogue, or a saved one, with the loss that it is trained with."""
    from convscope.models import create_model
    from convscope.models.catalog import default_loss
    from convscope.models.modelfile import describe, load
    from convscope.native.benchmarking import Subject
    from convscope.spec import spec_of

    loss: str | None = None
    if name.endswith(".safetensors") or Path(name).is_file():
        if options:
            raise click.UsageError("-o/--option builds a new model; a saved one is built already.")
        model = load(name)
        loss = (describe(name).get("config") or {}).get("loss")
    else:
        chosen = dict(options)
        if name == "lenet5":  # the form that is trained today, unless asked otherwise
            chosen = {"activation": "relu", "pool": "max", **chosen}
        model = create_model(name, **chosen)
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    classes = len(described.classes) or int(described.options["classes"])
    return Subject(name, model, loss or default_loss(model), (channels, height, width), classes)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    machine = report.machine
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no edge at which a table would have to be broken
    say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
    say("training steps, from uint8 pictures to moved parameters; ± is half the quartiles' distance")
    say(f"{machine.processor} · engine {machine.isa} · {machine.threads} threads · torch {machine.torch}")
    say(f"float32 matrix product: {machine.matrix_gflops:.0f} GFLOP/s")
    for name, difference in report.differences.items():
        say(f"{name}: gradients verified, at most {difference:.1e} of the largest beside float64")
    table = Table()
    for heading in ("model", "batch", "step by"):
        table.add_column(heading)
    for heading in ("ms", "± %", "images/s", "GFLOP/s", "share", "native is", "peak MB"):
        table.add_column(heading, justify="right")
    for case in report.cases():
        for row in report.rows:
            if (row.model, row.batch_size) == case:
                table.add_row(*_cells(report, row))
        table.add_section()
    console.print(table)
    for row in report.rows:
        if row.failure is not None:
            say(f"{row.model}, batch {row.batch_size}, {row.contestant}: {row.failure}")
    rivals = [name for name in ("eager", "channels_last", "compile") if any(r.contestant == name for r in report.rows)]
    if rivals and any(row.contestant == "native" and row.failure is None for row in report.rows):
        if "eager" in rivals:
            say(f"against torch eager: {report.geometric_mean(['eager']):.2f}×")
        say(f"against the best of torch in float32: {report.geometric_mean(rivals):.2f}×")
        say(f"share of the matrix product's rate: {report.mean_share():.0%} (geometric means)")


def _cells(report: Report, row: Row) -> list[str]:
    case = [row.model, str(row.batch_size), row.contestant]
    if row.failure is not None:
        return [*case, "–", "–", "–", "–", "–", "fails", "–"]
    ratio = report.ratio(row.model, row.batch_size, [row.contestant])
    return [
        *case,
        f"{row.milliseconds:.2f}",
        f"{row.spread * 50:.0f}",
        f"{row.images_per_second:,.0f}",
        "–" if row.gflops != row.gflops else f"{row.gflops:.0f}",
        "–" if row.share != row.share else f"{row.share:.0%}",
        "" if row.contestant == "native" or ratio != ratio else f"{ratio:.2f}×",
        "" if row.memory is None else f"{row.memory / 1e6:.1f}",
    ]
