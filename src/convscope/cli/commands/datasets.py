"""``convscope datasets``."""

from __future__ import annotations

from pathlib import Path

import click


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
    from convscope.data.catalog import SOURCES

    folder = data_root(root)
    if name is not None:
        _show(name, folder)
        return
    rows = [("name", "title", "year", "pictures", "classes", "train", "test", "there")]
    for known in SOURCES:
        card = SOURCES[known].card
        if wanted is not None and wanted.lower() not in f"{known} {card.title}".lower():
            continue
        shape = "×".join(map(str, card.shape)) if card.shape else "any size"
        train, test = (f"{number:,}" if number else "–" for number in (card.train, card.test))
        rows.append((known, card.title, str(card.year), shape, str(card.classes), train, test, _state(known, folder)))
    if len(rows) == 1:
        raise click.UsageError(f"No data set has {wanted!r} in its name or title.")
    click.echo(aligned(rows, left=2))
    click.echo(f"\nEach is looked for in its own folder below {folder} ($CONVSCOPE_DATA, or --root).")
    click.echo("A folder with a folder of pictures a class, or an .npz file, is named by its path.")


def _show(name: str, folder: Path) -> None:
    from convscope.data.catalog import SOURCES

    source = SOURCES[name]
    card = source.card
    shape = "×".join(map(str, card.shape)) if card.shape else "of any size"
    lines = [
        f"{name}: {card.title} ({card.year})",
        card.source,
        "",
        f"pictures   {shape}, {card.classes} classes; {card.train:,} to train on, {card.test:,} to test with",
        f"folder     {folder / name}",
        f"files      {card.files}",
        f"there      {_state(name, folder)}",
        f"options    {', '.join(source.option_names()) or 'none'}",
    ]
    click.echo("\n".join([*lines, *([f"note       {card.note}"] if card.note else [])]))


def _state(name: str, folder: Path) -> str:
    """Built in (digits comes with scikit-learn), or whether its folder holds anything."""
    if name == "digits":
        return "built in"
    place = folder / name
    return "yes" if place.is_dir() and any(place.iterdir()) else "no"
