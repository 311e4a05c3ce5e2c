"""``convscope evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convscope.cli.options import GroupedCommand, data_options, load_data
from convscope.cli.precision import calibration_pictures, precision_option
from convscope.cli.requests import read_request
from convscope.cli.terminal import json_text

if TYPE_CHECKING:
    from convscope.data import Dataset


@click.command(cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@data_options()
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--loss", metavar="NAME", help="Loss to report. [default: the architecture's own]")
@click.option(
    "--confusion", type=click.Path(path_type=Path), metavar="PNG|SVG", help="Draw the confusion matrix there."
)
@click.option(
    "--engine", type=click.Choice(["auto", "native", "torch"]), default="auto", show_default=True,
    help="What computes; auto takes the native engine where it has all layers.",
)  # fmt: skip
@click.option(
    "--check/--no-check", default=True, help="Compare the native engine's first answers with torch's. [default: yes]"
)
@precision_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    file: Path,
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    split: str,
    batch_size: int,
    loss: str | None,
    confusion: Path | None,
    engine: str,
    check: bool,
    precision: str,
    as_json: bool,
) -> None:
    """Measure the saved model FILE on a data set, by the figures of its task: for a classifier error, top-1 and top-5,
    every class, the confusion matrix.

    Without --data, the data set that the model was trained on.

    \b
    Examples:
      convscope evaluate runs/lenet5-mnist-001/model.safetensors
      convscope evaluate model.safetensors --data my_pictures/ --confusion confusion.png
      convscope evaluate model.safetensors --data mnist --json
    """
    from convscope.models.modelfile import describe, load
    from convscope.native.lowprecision import answering_in
    from convscope.native.trust import checking
    from convscope.tasks import evaluate, task_of
    from convscope.training.inference import prepare_inference

    model = load(file)
    description = describe(file)
    dataset = _dataset(file, description, data, root, data_pairs)
    part = dataset.test if split == "test" else dataset.train
    objective = loss or (description.get("config") or {}).get("loss")
    task = task_of(model, dataset)
    examined = task.examine(model, part, dataset)
    calibration = calibration_pictures(model, dataset, precision)
    with checking(check), answering_in(precision, calibration):
        inference = prepare_inference(model, examined.inputs, engine, len(part))
    figures = evaluate(model, part, batch_size, objective, examined.inputs[0].preprocessing, inference, task=task)
    architecture = (description.get("model") or {}).get("architecture", type(model).__name__)
    if confusion is not None:
        if "confusion" not in figures:
            raise click.UsageError(f"--confusion is for classifiers; {file} is for {task.name}.")
        _draw_confusion(confusion, figures, f"{architecture} on {dataset.name} ({split})")
    if as_json:
        content = {"model": str(file), "architecture": architecture, "data": dataset.name, "split": split}
        content |= {"engine": inference.engine, "engine_reason": inference.reason}
        click.echo(json_text({**content, **figures.to_json()}))
        return
    click.echo(f"{file} ({architecture}) on {dataset.name}, {split} {task.noun}")
    click.echo(f"engine {inference.engine}: {inference.reason}\n")
    click.echo(task.report(figures))
    if confusion is not None:
        click.echo(f"\nwritten {confusion}")


def _dataset(
    file: Path, description: Mapping[str, Any], data: str | None, root: Path | None, data_pairs: Sequence[str]
) -> Dataset[Any]:
    """The data set that is named, else the one that the model was trained on, with the options of then."""
    asked = read_request(file.parent) if data is None else None
    if asked is not None:
        data, data_pairs = asked["data"], data_pairs or asked["options"]
        root = root or (Path(asked["root"]) if asked["root"] else None)
    name = data or (description.get("data") or {}).get("source")
    if name is None:
        raise click.UsageError(f"{file} does not say what it was trained on; name a data set with --data.")
    return load_data(name, root, data_pairs)


def _draw_confusion(path: Path, figures: Any, title: str) -> None:
    from convscope.inspect.pictures import confusion_figure, save_picture

    title = f"{title}: {figures.error:.2%} error"
    save_picture(confusion_figure(figures.confusion, figures.classes, title), path)
