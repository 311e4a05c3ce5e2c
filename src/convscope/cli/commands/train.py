"""``convscope train``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convscope.cli.options import GroupedCommand, GroupedOption, data_options, load_data, parse_pairs, parse_value
from convscope.cli.requests import read_request, request, write_request
from convscope.cli.training_jobs import Wanted, resume_job, train_job, with_columns
from convscope.cli.training_options import given_settings, training_options

if TYPE_CHECKING:
    from torch import nn

    from convscope.training.recipes import Recipe


@click.command(cls=GroupedCommand)
@click.argument("model", required=False)
@data_options(default="digits")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", cls=GroupedOption, heading="Model",
    help="Option of the model's builder, e.g. activation=relu; may be repeated (see: convscope models NAME).",
)  # fmt: skip
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", cls=GroupedOption, heading="Model",
    help="Begin from these weights (ours, safetensors, or a state dict such as torchvision's); a last layer for other "
    "classes begins anew.",
)  # fmt: skip
@click.option(
    "--freeze", multiple=True, metavar="NAME|N", cls=GroupedOption, heading="Model",
    help="Do not train the layers whose names begin so, or the first N layers (-N: all but the last N); repeatable.",
)  # fmt: skip
@click.option(
    "--task", metavar="NAME", cls=GroupedOption, heading="Task",
    help="What is learned; left out, what the model is for.",
)  # fmt: skip
@click.option(
    "--recipe", default="auto", metavar="NAME", cls=GroupedOption, heading="Model",
    help="Measured settings to start from: auto takes the one for model and data, none goes without; options given "
    "here override it. [default: auto]",
)  # fmt: skip
@training_options
@click.option(
    "--columns", type=click.IntRange(min=1), metavar="N", cls=GroupedOption, heading="Task",
    help="Columns of the committee mcdnn. [default: 35]",
)  # fmt: skip
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="RUN_DIR",
    help="Go on with the run in this folder, exactly where its newest whole checkpoint was taken.",
)  # fmt: skip
@click.option("--pictures/--no-pictures", default=True, help="Draw curves, confusion, kernels … [default: on]")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def command(
    model: str | None,
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    pairs: Sequence[str],
    weights: Path | None,
    freeze: Sequence[str],
    task: str | None,
    recipe: str,
    columns: int | None,
    resume: Path | None,
    pictures: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Train MODEL (a catalogue name, or a saved model to train on; lenet5 without a name) on a data set.

    Everything goes into a run folder: configuration, history as CSV, checkpoints, the finished model, pictures. Ctrl-C
    finishes the batch, saves, and says how to go on.

    \b
    Examples:
      convscope train
      convscope train lenet5 --data mnist
      convscope train lenet5 --data mnist -o activation=sigmoid -o pool=mean
      convscope train lenet5_1998 --data mnist --epochs 20 --lr 0.001 --seed 1
      convscope train slides_cifar10 --data my_pictures/ --epochs 30
      convscope train mcdnn --data mnist --columns 5
      convscope train resnet18 --weights resnet18.safetensors --freeze layer --data my_pictures/
      convscope train --resume runs/lenet5-mnist-001 --epochs 20
    """
    settings = with_columns(given_settings(values), model, columns)
    wanted = Wanted(data, root, data_pairs, task, pictures, quiet)
    if resume is not None:
        if resume_job(resume, settings, quiet):
            return
        if weights is not None or freeze:
            raise click.UsageError("--resume goes on with the folder's own weights; give no --weights or --freeze.")
        _refuse_beside_resume(model, pairs, task, settings)
        _resume(resume, wanted, settings)
        return
    wanted = wanted._replace(data=data or "digits")
    name = model or "lenet5"
    options = parse_pairs(pairs, "--option")
    if train_job(name, wanted, bool(options or weights or freeze or task), settings):
        return
    if name.endswith(".safetensors") or Path(name).is_file():
        if options or weights is not None:
            raise click.UsageError("-o/--option and --weights build a new model; a saved one is built already.")
        _train_on(name, wanted, freeze, settings)
    else:
        _train_new(name, wanted, recipe, options, weights, freeze, settings)


def _train_on(file: str, wanted: Wanted, freeze: Sequence[str], settings: dict[str, Any]) -> None:
    from convscope.models.modelfile import describe
    from convscope.training import load

    model = load(file)
    described = describe(file)["model"]["architecture"]
    _fit(model, wanted, _frozen(model, freeze, settings), {}, f"from {file} ({described})")


def _train_new(
    name: str,
    wanted: Wanted,
    recipe: str,
    options: dict[str, Any],
    weights: Path | None,
    freeze: Sequence[str],
    settings: dict[str, Any],
) -> None:
    from convscope.models import MODELS, create_model

    assert wanted.data is not None
    chosen = _recipe(recipe, name, wanted.data, options)
    if chosen is not None:
        options = {**chosen.options, **options}
        own = {**chosen.settings.get("settings", {}), **settings.get("settings", {})}  # --set changes single ones
        settings = {**chosen.settings, **settings, **({"settings": own} if own else {})}
    if weights is not None:
        # the file's first layer reads so many channels; grey pictures are given to a colour network in colour
        options = {"in_channels": MODELS[name].card.channels, **options, "weights": str(weights)}
    if freeze:
        settings = _frozen(create_model(name, **options), freeze, settings)
    _fit(name, wanted, settings, options, _announce(chosen, options, settings))


def _recipe(recipe: str, model: str, data: str, options: Mapping[str, Any]) -> Recipe | None:
    from convscope.models import MODELS
    from convscope.tasks.recipes import find_recipe, recipe_named

    entry = MODELS[model]  # an unknown model is said before anything else
    if recipe == "none":
        return None
    model = entry.name
    return find_recipe(model, data, options) if recipe == "auto" else recipe_named(recipe)


def _frozen(model: nn.Module, freeze: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with a learning rate of 0 for what ``--freeze`` names: that goes with the run when it is resumed."""
    from convscope.models.weights import freeze as freeze_layers

    rates = dict(settings.get("learning_rates", {}))
    for what in freeze:
        number = parse_value(what)
        rates |= dict.fromkeys(freeze_layers(model, number if isinstance(number, int) else what), 0.0)
    return {**settings, "learning_rates": rates} if rates else settings


def _announce(recipe: Recipe | None, options: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What is about to be trained with, so that nothing is hidden."""
    shown = {**options, **settings}
    rates = shown.pop("learning_rates", {})
    if frozen := sum(1 for rate in rates.values() if rate == 0):
        shown["frozen"] = f"{frozen} parameters"
    if others := {name: rate for name, rate in rates.items() if rate}:
        shown["learning_rates"] = others
    parts = [f"{name}={value}" for name, value in shown.items() if name != "run_dir"]
    text = ", ".join(parts) or "the defaults"
    return f"recipe {recipe.name}: {text}" if recipe is not None else f"settings: {text}"


def _refuse_beside_resume(
    model: str | None, pairs: Sequence[str], task: str | None, settings: Mapping[str, Any]
) -> None:
    if model is not None or pairs or task is not None or "run_dir" in settings:
        raise click.UsageError(
            "--resume goes on with the folder's own model; give no MODEL, --option, --task or --run-dir."
        )


def _resume(folder: Path, wanted: Wanted, settings: dict[str, Any]) -> None:
    asked = read_request(folder) if wanted.data is None else None
    if asked is not None:
        wanted = wanted._replace(
            data=asked["data"],
            root=wanted.root or (Path(asked["root"]) if asked["root"] else None),
            data_pairs=wanted.data_pairs or asked["options"],
        )
    _fit(None, wanted, {**settings, "run_dir": str(folder), "resume": True}, {}, "")


def _fit(model: Any, wanted: Wanted, settings: dict[str, Any], options: dict[str, Any], announcement: str) -> None:
    from rich.console import Console

    from convscope.cli.main import INTERRUPTED
    from convscope.cli.progress import TrainingDisplay, summary
    from convscope.cli.terminal import UNREAD
    from convscope.tasks import RunPictures, fit
    from convscope.training import Config, events

    Config.of(**settings)  # wrong settings are refused before the data are read
    data = wanted.data
    dataset = load_data(data, wanted.root, wanted.data_pairs) if data is not None else None
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=200)
    drawing = RunPictures()

    def remember(event: events.Event) -> None:
        if isinstance(event, events.RunStarted) and data is not None:
            write_request(event.run_dir, request(data, wanted.root, wanted.data_pairs))

    speaks = os.environ.get("RANK", "0") == "0"  # of several processes under torchrun the first
    if announcement and not wanted.quiet and speaks:
        console.print(announcement, style="dim", highlight=False, soft_wrap=True, markup=False)
    with TrainingDisplay(console, wanted.quiet) as display:
        listeners: list[events.Listener] = [display, remember, *([drawing] if wanted.pictures else [])]
        try:
            result = fit(
                model, dataset, listeners=listeners if speaks else [], model_options=options or None,
                task=wanted.task,
                **settings,
            )  # fmt: skip
        except SystemExit as stop:  # SIGTERM or SIGHUP, after the state was saved
            raise SystemExit(UNREAD if display.unread else INTERRUPTED) from stop
    if not speaks:
        return
    for line in summary(result):
        click.echo(line)
    drawn = sorted(path.name for path in result.run_dir.glob("*.png"))
    if drawn and not wanted.quiet:
        click.echo(f"pictures {', '.join(drawn)}")
    for problem in drawing.problems:
        click.echo(f"convscope: a picture could not be drawn: {problem}", err=True)
