"""``convscope datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from convscope.data.catalog import Card


@click.command()
@click.argument("name", required=False)
@click.option("--root", type=click.Path(path_type=Path), metavar="DIR", help="Folder that holds a folder for each.")
@click.option("-f", "--filter", "wanted", metavar="TEXT", help="List only names and titles with TEXT.")
def command(name: str | None, root: Path | None, wanted: str | None) -> None:
    """List the data sets known by name, where they are looked for, and whether they are there; or show NAME.

    \b
    Examples:
      convscope datasets
      convscope datasets cifar10
    """
    from convscope.columns import aligned
    from convscope.data import data_root
    from convscope.data.catalog import LAYOUTS, SOURCES

    folder = data_root(root)
    if name is not None:
        _show(name, folder)
        return
    rows = [("name", "title", "year", "kind", "pictures", "classes", "train", "test", "there")]
    for known in SOURCES:
        card = SOURCES[known].card
        if wanted is not None and wanted.lower() not in f"{known} {card.title}".lower():
            continue
        classes, train, test = (f"{number:,}" if number else "–" for number in (card.classes, card.train, card.test))
        kind = (card.kind, _pictures(card), classes)
        rows.append((known, card.title, str(card.year), *kind, train, test, _state(known, folder)))
    if len(rows) == 1:
        raise click.UsageError(f"No data set has {wanted!r} in its name or title.")
    click.echo(aligned(rows, left=2))
    click.echo(f"\nEach is looked for in its own folder below {folder} ($CONVSCOPE_DATA, or --root).")
    click.echo("Your own data set is named by its path. It may be laid out as:")
    for each in LAYOUTS:
        click.echo(f"  {each}: {LAYOUTS[each].looks}")


def _show(name: str, folder: Path) -> None:
    from convscope.data.catalog import SOURCES

    source = SOURCES[name]
    card = source.card
    pictures = "" if _pictures(card) == "–" else f"pictures of {_pictures(card)}, "
    classes = f"{card.classes} classes; " if card.classes else ""
    lines = [
        f"{name}: {card.title} ({card.year})",
        card.source,
        "",
        f"kind       {card.kind}",
        f"examples   {pictures}{classes}{card.train:,} to train on, {card.test:,} to test with",
        f"folder     {folder / name}",
        f"files      {card.files}",
        f"there      {_state(name, folder)}",
        f"options    {', '.join(source.option_names()) or 'none'}",
    ]
    click.echo("\n".join([*lines, *([f"note       {card.note}"] if card.note else [])]))


def _pictures(card: Card) -> str:
    """Their shape."""
    if card.kind in ("sentences", "parallel"):
        return "–"
    return "×".join(map(str, card.shape)) if card.shape else "any size"


def _state(name: str, folder: Path) -> str:
    """Built in (digits comes with scikit-learn), or whether its folder holds anything."""
    if name == "digits":
        return "built in"
    place = folder / name
    return "yes" if place.is_dir() and any(place.iterdir()) else "no"
