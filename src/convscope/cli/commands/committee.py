"""``convscope committee``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convscope.cli.options import GroupedCommand, data_options, load_data
from convscope.cli.requests import read_request
from convscope.cli.terminal import json_text

if TYPE_CHECKING:
    from convscope.models.committee import Committee


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@data_options()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="Model file to write, with all members in it. [default: committee.safetensors]",
)  # fmt: skip
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG|SVG", help="Draw errors and agreement there.")
@click.option(
    "--engine", type=click.Choice(["auto", "native", "torch"]), default="auto", show_default=True,
    help="What computes; auto takes the native engine where it has all layers.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Which committees of 2 and 5 are looked at.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    files: Sequence[Path],
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    out: Path | None,
    picture: Path | None,
    engine: str,
    seed: int,
    as_json: bool,
) -> None:
    """Put the saved classifiers FILE… together into one model that averages their probabilities, each with its own
    preprocessing, and measure it: errors of one, two, five and all members, who agrees with whom.

    The members must know the same classes and take pictures of one size. One FILE that is a committee already is
    measured again. Without --data, the data set that the first member was trained on.

    \b
    Examples:
      convscope committee runs/lenet5-mnist-00*/model.safetensors --out committee.safetensors
      convscope committee committee.safetensors --data mnist --picture agreement.png
    """
    from convscope.models.modelfile import describe
    from convscope.tasks.committee.agreement import study

    asked = read_request(files[0].parent) if data is None else None
    if asked is not None:
        data, data_pairs = asked["data"], data_pairs or asked["options"]
        root = root or (Path(asked["root"]) if asked["root"] else None)
    name = data or (describe(files[0]).get("data") or {}).get("source")
    model, names, written = _together(files, out, name)
    if written is not None:
        click.echo(f"{written}: {len(names)} members", err=as_json)
    if name is None and (written is None or picture is not None or as_json):
        raise click.UsageError(f"{files[0]} does not say what it was trained on; name a data set with --data.")
    if name is None:
        return
    dataset = load_data(name, root, data_pairs)
    found = study(model, dataset.test, names, engine, seed)
    if picture is not None:
        found.draw(picture, f"{len(names)} members on {dataset.name}")
    click.echo(json_text(found.to_json()) if as_json else found.table())
    if picture is not None:
        click.echo(f"written {picture}", err=as_json)


def _together(files: Sequence[Path], out: Path | None, data: str | None) -> tuple[Committee, list[str], Path | None]:
    """The committee of the files, its members' names, and the file written; of one file that is a committee already,
    itself, which is written only where ``out`` says so."""
    from convscope.models.committee import Committee, committee
    from convscope.models.modelfile import load, save

    models = [load(path) for path in files]
    only = models[0]
    if len(models) == 1 and isinstance(only, Committee):
        model, names = only, [str(place + 1) for place in range(len(only.members))]
    else:
        model, names, out = committee(models), _short(files), out or Path("committee.safetensors")
    if out is not None:
        save(model, out, data=None if data is None else {"source": data, "name": data})
    return model, names, out


def _short(files: Sequence[Path]) -> list[str]:
    """The files' names without what all have in common at the end: runs/a/model.safetensors → a."""
    stems = [path.stem if path.stem != "model" else path.parent.name or path.stem for path in files]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in files]
