"""``convscope bench``."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convscope.cli.options import parse_pairs

if TYPE_CHECKING:
    from convscope.native.benchmarking import Report, Row, Subject
    from convscope.native.benchmarking.inference import Startup, Timing

TRAINING = ("native", "accelerated", "eager", "channels_last", "compile", "bfloat16")
INFERENCE = (
    "native",
    "native_bf16",
    "native_int8",
    "eager",
    "channels_last",
    "compile",
    "bfloat16",
    "onnxruntime",
    "openvino",
)


@click.command()
@click.argument("models", nargs=-1)
@click.option(
    "--what", type=click.Choice(["training", "inference", "both"]), default="both", show_default=True,
    help="Training steps, answers to pictures (to one, and to each batch), or both.",
)  # fmt: skip
@click.option(
    "-b", "--batch", "--batch-size", "batch_sizes", multiple=True, type=click.IntRange(min=1),
    help="Pictures of a step and of an answer; may be repeated. [default: 64]",
)  # fmt: skip
@click.option(
    "--input", "size", metavar="SIDE|HxW", help="Size of the pictures, e.g. 64 or 48x64. [default: the model's own]"
)
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Option of the models' builders, e.g. activation=tanh; may be repeated.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, type=click.Choice(list(dict.fromkeys(TRAINING + INFERENCE))),
    help="Time only these; may be repeated. [default: all]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every contestant. [default: as torch is set]")
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Turns that each one has.")
@click.option("--memory/--no-memory", default=False, help="Also a step's peak memory, each in a fresh process.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there, - for here."
)
def command(
    models: Sequence[str],
    what: str,
    batch_sizes: Sequence[int],
    size: str | None,
    pairs: Sequence[str],
    only: Sequence[str],
    threads: int | None,
    rounds: int,
    memory: bool,
    path: Path | None,
) -> None:
    """Time training steps and answers of MODELS (names in the catalogue or saved files; default: lenet5): the native
    engine beside torch's ways, and for answers beside ONNX Runtime and OpenVINO where they are installed.

    First the native gradients and answers are compared with torch's in float64; where they differ nothing is timed.
    Then all take turns in one run, with as many threads each and no rests. A step goes from uint8 pictures to moved
    parameters, an answer from float32 pictures to the model's outputs.

    \b
    Examples:
      convscope bench
      convscope bench lenet5_1998 mcdnn_column -b 64 -b 256 --json bench.json
      convscope bench runs/lenet5-mnist-001/model.safetensors --what inference
      convscope bench resnet18 -b 16 --input 64 --only native --only channels_last
    """
    from rich.console import Console

    from convscope.tensorfile import write_text

    wanted = _contestants(what, only)
    options = parse_pairs(pairs, "--option")
    sides = None if size is None else _sides(size)
    subjects = [_subject(name, options, sides) for name in models or ("lenet5",)]
    with Console(stderr=True).status("the machine's matrix products") as status:
        found = _measured(subjects, batch_sizes or (64,), wanted, rounds, threads, memory, status.update)
    text = json.dumps(found.to_json(), indent=1)
    if path is not None and str(path) == "-":
        click.echo(text)
        return
    _print(found)
    if path is not None:
        write_text(path, text + "\n")
        click.echo(f"written {path}")


@dataclasses.dataclass(frozen=True)
class _Found:
    """``report`` of the training steps (without rows where there were none), ``timings`` of the answers and the native
    engine's start by model, or why there is none."""

    report: Report
    timings: list[Timing]
    startups: dict[str, Startup | str]

    def to_json(self) -> dict[str, Any]:
        starts = {name: None if isinstance(each, str) else vars(each) for name, each in self.startups.items()}
        return {**self.report.to_json(), "inference": [row.to_json() for row in self.timings], "startup": starts}


def _measured(
    subjects: Sequence[Subject],
    batch_sizes: Sequence[int],
    wanted: Mapping[str, Sequence[str]],
    rounds: int,
    threads: int | None,
    memory: bool,
    progress: Callable[[str], None],
) -> _Found:
    from convscope.errors import LoweringError
    from convscope.native.benchmarking import benchmark
    from convscope.native.benchmarking.inference import race, startup

    training = subjects if wanted["training"] else []
    report = benchmark(
        training, batch_sizes, wanted["training"], rounds=rounds, threads=threads, measure_memory=memory,
        progress=progress,
    )  # fmt: skip
    timings: list[Timing] = []
    startups: dict[str, Startup | str] = {}
    for subject in subjects if wanted["inference"] else []:
        for pictures in dict.fromkeys((1, *batch_sizes)):
            progress(f"{subject.name}, answers to {pictures}")
            shape = subject.input_shape
            timings += race(
                subject.name, subject.model, shape, pictures, wanted["inference"], threads=threads, rounds=rounds
            )
        if "native" in wanted["inference"]:
            try:
                startups[subject.name] = startup(subject.model, subject.input_shape, 1, threads=threads)
            except LoweringError as problem:
                startups[subject.name] = str(problem)
    return _Found(report, timings, startups)


def _contestants(what: str, only: Sequence[str]) -> dict[str, Sequence[str]]:
    """Who takes part in training and in inference."""
    found: dict[str, Sequence[str]] = {}
    for name, all_of_it in (("training", TRAINING), ("inference", INFERENCE)):
        own = [each for each in all_of_it if each in only or not only]
        found[name] = own if what in (name, "both") else []
    if not any(found.values()):
        raise click.UsageError(f"--only {' '.join(only)}: nobody of these takes part in {what}.")
    return found


def _sides(text: str) -> tuple[int, int]:
    """``"64"`` as (64, 64), ``"48x64"`` as (48, 64)."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", text.strip())
    if found is None:
        raise click.BadParameter(f"got {text!r}, wanted a side or HxW, for example 64 or 48x64", param_hint="--input")
    return int(found[1]), int(found[2] or found[1])


def _subject(name: str, options: Mapping[str, Any], sides: tuple[int, int] | None) -> Subject:
    """A model of the catalogue, or a saved one, with the loss that it is trained with."""
    from convscope.errors import ArgumentError
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
    if described is None or described.task != "classification" or len(described.input_shape) != 3:
        task = "something unknown" if described is None else described.task
        raise ArgumentError("models", name, "a classifier of pictures", f"This one is for {task}.")
    channels, *own_sides = described.input_shape
    height, width = own_sides if sides is None else sides
    if sides is not None:
        _check_takes(model, name, (channels, height, width), (own_sides[0], own_sides[1]))
    classes = len(described.classes) or int(described.options["classes"])
    return Subject(name, model, loss or default_loss(model), (channels, height, width), classes)


def _check_takes(model: Any, name: str, shape: tuple[int, int, int], own: tuple[int, int]) -> None:
    """ArgumentError where the model cannot answer a picture of another size than its own."""
    import torch

    from convscope.errors import ArgumentError

    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError) as problem:
        wanted = f"a size that {name} takes, as its own {own[0]}x{own[1]}"
        raise ArgumentError("input", f"{shape[1]}x{shape[2]}", wanted, str(problem).split("\n")[0]) from None
    finally:
        model.train(training)


def _print(found: _Found) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no edge at which a table would have to be broken
    machine = found.report.machine
    say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
    say(f"{machine.processor} · engine {machine.isa} · {machine.threads} threads · torch {machine.torch}")
    say(f"float32 matrix product: {machine.matrix_gflops:.0f} GFLOP/s; ± is half the quartiles' distance")
    if found.report.rows:
        _print_training(found.report, console, say)
    if found.timings:
        _print_inference(found, console, say)


def _print_training(report: Report, console: Any, say: Callable[[str], None]) -> None:
    from rich.table import Table

    say("\ntraining steps, from uint8 pictures to moved parameters")
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


def _print_inference(found: _Found, console: Any, say: Callable[[str], None]) -> None:
    from rich.table import Table

    from convscope.native.benchmarking.inference import ratio

    say("\nanswers to pictures; start: from the model to the first answer")
    table = Table()
    for heading in ("model", "pictures", "answers by"):
        table.add_column(heading)
    for heading in ("ms", "± %", "pictures/s", "off by", "native is", "start, s"):
        table.add_column(heading, justify="right")
    for case in dict.fromkeys((row.model, row.pictures) for row in found.timings):
        rows = [row for row in found.timings if (row.model, row.pictures) == case]
        for row in rows:
            cells = [row.model, str(row.pictures), row.contestant]
            if row.failure is not None:
                table.add_row(*cells, "–", "–", "–", "–", row.failure, "–")
                continue
            quicker = ratio(rows, [row.contestant])
            table.add_row(
                *cells, f"{row.milliseconds:.3f}", f"{row.spread * 50:.0f}",
                f"{row.pictures / row.milliseconds * 1e3:,.0f}", f"{row.difference:.0e}",
                "" if row.contestant == "native" or math.isnan(quicker) else f"{quicker:.2f}×", f"{row.start:.2f}",
            )  # fmt: skip
        table.add_section()
    console.print(table)
    for name, start in found.startups.items():
        if isinstance(start, str):
            say(f"{name}, native start: {start}")
            continue
        own = [row.milliseconds for row in found.timings if row.model == name and row.contestant == "native"][:1]
        say(
            f"{name}, native start on one picture: reading the model {1e3 * start.lowering:.0f} ms, making the network "
            f"{1e3 * start.building:.0f} ms, first answer {1e3 * start.first:.1f} ms (later ones {own[0]:.3f}, their "
            f"weights turned anew each time), comparing with torch {1e3 * start.comparing:.0f} ms"
        )
