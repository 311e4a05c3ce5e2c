"""``convscope predict``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from convscope.training.inference import Inference


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes a picture.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--engine", type=click.Choice(["auto", "native", "torch"]), default="auto", show_default=True,
    help="What computes; auto takes the native engine where it has all layers.",
)  # fmt: skip
@click.option("--json", "layout", flag_value="json", help="One JSON object a picture and line, with all probabilities.")
@click.option("--csv", "layout", flag_value="csv", help="A table: picture, rank, class, probability.")
def command(file: Path, paths: Sequence[Path], top: int, batch_size: int, engine: str, layout: str | None) -> None:
    """Say what the pictures in PATHS show, by the saved model FILE.

    PATHS are picture files, and folders that are searched through all levels. Pictures of any size and colour are
    brought to what the model takes.

    \b
    Examples:
      convscope predict runs/lenet5-mnist-001/model.safetensors seven.png
      convscope predict model.safetensors pictures/ --top 1 --csv > classes.csv
    """
    from convscope.errors import DataError
    from convscope.tasks.classification import iterate_predictions
    from convscope.training import load

    for path in paths:
        if not path.exists():
            raise DataError(path, "no such file or folder")
    model = load(file)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if layout == "csv":
        writer.writerow(["picture", "rank", "class", "probability"])

    def tell(inference: Inference) -> None:
        click.echo(f"engine {inference.engine}: {inference.reason}", err=True)

    for found in iterate_predictions(model, list(paths), batch_size, engine=engine, told=tell):
        best = found.top(top)
        if layout == "json":
            shares = dict(zip(found.classes, found.probabilities, strict=True))
            content = {"picture": found.source, "class": found.label, "probability": found.probability}
            click.echo(json.dumps({**content, "probabilities": shares}, ensure_ascii=False))
        elif layout == "csv":
            writer.writerows((found.source, rank, name, f"{share:.6f}") for rank, (name, share) in enumerate(best, 1))
        else:
            shown = "  ".join(f"{name} {share:.1%}" for name, share in best)
            click.echo(f"{found.source}: {shown}")
