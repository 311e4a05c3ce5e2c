"""``convscope predict``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convscope.cli.options import load_data
from convscope.cli.precision import calibration_pictures, precision_option
from convscope.cli.terminal import json_text

if TYPE_CHECKING:
    from convscope.training.inference import Inference


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes an answer.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--engine", type=click.Choice(["auto", "native", "torch"]), default="auto", show_default=True,
    help="What computes; auto takes the native engine where it has all layers.",
)  # fmt: skip
@click.option(
    "--check/--no-check", default=True, help="Compare the native engine's first answers with torch's. [default: yes]"
)
@precision_option
@click.option(
    "--calibrate", metavar="NAME|PATH", help="Data set on whose training pictures --precision int8 finds its ranges."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="DIR",
    help="Write there what can be looked at: pictures with what was found drawn on them.",
)  # fmt: skip
@click.option(
    "--show", is_flag=True,
    help="With --out, of a detector: a picture of regions, anchors and windows beside the boxes too.",
)  # fmt: skip
@click.option("--json", "layout", flag_value="json", help="One JSON object an answer and line, with all that is known.")
@click.option("--csv", "layout", flag_value="csv", help="A table, for a classifier: picture, rank, class, probability.")
def command(
    file: Path,
    inputs: Sequence[str],
    top: int,
    batch_size: int,
    engine: str,
    check: bool,
    precision: str,
    calibrate: str | None,
    out: Path | None,
    show: bool,
    layout: str | None,
) -> None:
    """Say what the saved model FILE answers to INPUTS: for a model of pictures, what they show.

    INPUTS are what the model's task takes: picture files, and folders that are searched through all levels. Pictures of
    any size and colour are brought to what the model takes.

    \b
    Examples:
      convscope predict runs/lenet5-mnist-001/model.safetensors seven.png
      convscope predict model.safetensors pictures/ --top 1 --csv > classes.csv
      convscope predict detector.safetensors pictures/ --out drawn/ --show
    """
    from convscope.models.modelfile import load
    from convscope.native.lowprecision import answering_in
    from convscope.native.trust import checking
    from convscope.tasks import task_of
    from convscope.tasks.detection.predict import Detection

    if (precision == "int8") != (calibrate is not None):
        raise click.UsageError("--calibrate and --precision int8 go together.")
    if show and out is None:
        raise click.UsageError("--show draws pictures: say with --out DIR where to.")
    model = load(file)
    task = task_of(model)
    if show and task.name != Detection.task:
        raise click.UsageError(f"--show draws what a detector's boxes came from; {file} is a model of {task.name}.")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if layout == "csv":
        writer.writerow(task.answer_header)

    def tell(inference: Inference) -> None:
        click.echo(f"engine {inference.engine}: {inference.reason}", err=True)

    calibration = None
    if calibrate is not None:
        calibration = calibration_pictures(model, load_data(calibrate, None, ()), precision)
    with checking(check), answering_in(precision, calibration):
        for answer in task.predict(model, list(inputs), batch_size, engine=engine, told=tell):
            if layout == "json":
                click.echo(json_text(answer.to_json()))
            elif layout == "csv":
                writer.writerows(answer.rows(top))
            else:
                click.echo(answer.line(top))
            if out is None:
                continue
            for path in answer.save(out) + (answer.save_steps(out) if show and isinstance(answer, Detection) else []):
                click.echo(f"written {path}", err=True)
