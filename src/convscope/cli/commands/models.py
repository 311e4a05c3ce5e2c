"""``convscope models``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convscope.cli.options import parse_pairs

if TYPE_CHECKING:
    from convscope.models import Entry


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--filter", "wanted", metavar="TEXT", help="List only names, titles, families or papers with TEXT.")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Option of the builder for NAME's tables, e.g. activation=relu; classes and in_channels too.",
)  # fmt: skip
@click.option("--input-shape", metavar="C,H,W", help="Show NAME for inputs of another size.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG|SVG", help="Draw NAME's graph there.")
@click.option("--dense", is_flag=True, help="Also what every convolution would cost as a dense matrix.")
def command(
    name: str | None,
    wanted: str | None,
    pairs: Sequence[str],
    input_shape: str | None,
    picture: Path | None,
    dense: bool,
) -> None:
    """List the catalogue's architectures, or show NAME: its card, layers, cost, receptive fields, and its graph.

    \b
    Examples:
      convscope models
      convscope models --filter inception
      convscope models lenet5_1998 --picture lenet5.png
      convscope models resnet18 -o classes=10 --dense
    """
    from convscope.models import MODELS

    if name is not None:
        _show(MODELS[name], parse_pairs(pairs, "--option"), input_shape, picture, dense)
        return
    if pairs or input_shape or picture or dense:
        raise click.UsageError("These options need a NAME, for example: convscope models lenet5 --picture lenet5.png")
    _list(wanted)


def _list(wanted: str | None) -> None:
    from convscope.columns import aligned
    from convscope.models import MODELS

    entries = [MODELS[known] for known in MODELS]
    if wanted is not None:
        text = wanted.lower()
        entries = [
            entry
            for entry in entries
            if any(text in part.lower() for part in (entry.name, entry.card.title, entry.card.family, entry.card.paper))
        ]
        if not entries:
            raise click.UsageError(f"No model has {wanted!r} in its name, title, family or paper.")
    rows = [("name", "title", "year", "input", "classes", "parameters")]
    rows += [
        (
            entry.name,
            entry.card.title,
            str(entry.card.year),
            "×".join(map(str, entry.card.input_shape)),
            str(entry.card.classes),
            f"{entry.card.parameters:,}",
        )
        for entry in entries
    ]
    click.echo(aligned(rows, left=2))


def _show(entry: Entry, options: dict[str, Any], shape: str | None, picture: Path | None, dense: bool) -> None:
    from convscope.graph.calls import walk
    from convscope.inspect import ReceptiveFields, count
    from convscope.inspect.pictures import graph_figure, save_picture
    from convscope.inspect.tables import dense_table, layer_table
    from convscope.models import create_model

    model = create_model(entry.name, **options)
    sizes = _shape(shape)
    card = entry.card
    click.echo(f"{entry.name}: {card.title} ({card.year})\n{card.paper}\n")
    facts = [
        ("published", card.published),
        ("input", "×".join(map(str, card.input_shape))),
        ("parameters", f"{card.parameters:,} for {card.classes} classes"),
        ("loss", card.loss),
        ("options", ", ".join(entry.option_names()) or "none"),
        ("note", card.note),
    ]
    for what, text in facts:
        if text:
            click.echo(f"{what:<11} {text}")
    counts = count(model, sizes)
    click.echo(f"\n{layer_table(counts, ReceptiveFields(model, sizes))}")
    if dense:
        click.echo(f"\n{dense_table(counts)}")
    if picture is not None:
        save_picture(graph_figure(walk(model, sizes), f"{entry.name} · {card.title}"), picture)
        click.echo(f"\nwritten {picture}")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").replace("×", ",").split(","))
    except ValueError:
        raise click.BadParameter(
            f"got {text!r}, wanted C,H,W, for example 3,224,224", param_hint="--input-shape"
        ) from None
