"""``convscope explore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convscope.cli.options import GroupedCommand, data_options, load_data, parse_pairs

if TYPE_CHECKING:
    from convscope.data import Dataset
    from convscope.explorer.session import Session
    from convscope.explorer.unopened import UnopenedFile


@click.command(cls=GroupedCommand)
@click.argument("model", metavar="FILE|MODEL")
@data_options()
@click.option("--item", type=click.IntRange(min=0), metavar="N", help="Test picture to begin with. [default: a 3]")
@click.option(
    "--model", "architecture", metavar="NAME", help="Catalogue model that FILE's weights belong to, if it does not say."
)
@click.option(
    "--beside", "others", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Another saved model of the same layers, to compare with; may be repeated, as a film.",
)  # fmt: skip
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the catalogue model's builder."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="Port on this computer. [default: 8899, or a free one]"
)
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option(
    "--save", "saved", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html",
    help="Write one file that works without a server and without a network, and end.",
)  # fmt: skip
@click.option(
    "--lesson", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.toml",
    help="Open with a lesson: texts and questions step by step; with --save it is in the page.",
)  # fmt: skip
@click.option(
    "--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html",
    help="Write a sheet to fill in by hand, with its key, of the number that --unit names, and end.",
)  # fmt: skip
@click.option("--unit", metavar="PLACE", help="c3/5/3/7: layer, map, row, column; c1.weight/0/0/2/2 for a gradient.")
@click.option(
    "--of", type=click.Choice(["value", "delta", "gradient"]), default="value", show_default=True,
    help="The number that the sheet is about.",
)  # fmt: skip
@click.option(
    "--terms", type=click.IntRange(1, 60), default=12, show_default=True, metavar="N",
    help="Products of the sheet left blank, the largest first; the others are given as one subtotal.",
)  # fmt: skip
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the page. [default: the browser's]")
def command(
    model: str,
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    item: int | None,
    architecture: str | None,
    others: Sequence[Path],
    pairs: Sequence[str],
    port: int | None,
    no_browser: bool,
    saved: Path | None,
    lesson: Path | None,
    sheet: Path | None,
    unit: str | None,
    of: str,
    terms: int,
    lang: str | None,
) -> None:
    """Open a model in the browser: every number of it, forward and backward, and where it comes from.

    FILE is a saved model (.safetensors); MODEL a catalogue name, with fresh random weights. The page is served to this
    computer alone, and stays until Ctrl-C.

    \b
    Examples:
      convscope explore runs/lenet5-mnist-001/model.safetensors --data mnist
      convscope explore lenet5 -o activation=relu --data mnist --lang zh
      convscope explore model.safetensors --data mnist --save lesson.html
      convscope explore model.safetensors --data mnist --lesson convolution.toml
      convscope explore model.safetensors --data mnist --sheet sheet.html --unit c3/5/3/7
      convscope explore late.safetensors --beside early.safetensors --beside middle.safetensors
    """
    from convscope.explorer import serve
    from convscope.explorer.beside import placed_beside
    from convscope.explorer.unopened import UnopenedFile
    from convscope.training import load

    dataset = load_data(data, root, data_pairs) if data is not None else None
    session = _session(model, architecture, pairs, dataset, item)
    if not isinstance(session, UnopenedFile):
        session.besides = [placed_beside(session.network, load(path), str(path)) for path in others]
    if lesson is not None:
        _teach(session, lesson)
    if unit is not None or sheet is not None:
        _sheet(session, sheet, unit, of, terms, lang)
        return
    if saved is not None:
        _save(session, saved, lang)
        return
    with serve(session, port, lang, browser=not no_browser) as handle:
        click.echo(f"{handle.url}\nThe explorer runs until Ctrl-C.")
        handle.wait()


def _teach(session: Session | UnopenedFile, path: Path) -> None:
    """The lesson worked out on the model; an error names the file, the step, the line and the key."""
    from convscope.explorer.lessons import lesson_of
    from convscope.explorer.unopened import UnopenedFile

    if isinstance(session, UnopenedFile):
        raise click.UsageError("--lesson needs a model: give the name of the architecture with --model.")
    session.lesson = lesson_of(session, path)


def _sheet(
    session: Session | UnopenedFile, path: Path | None, unit: str | None, of: str, terms: int, lang: str | None
) -> None:
    from convscope.explorer.lessons import save_sheet
    from convscope.explorer.unopened import UnopenedFile

    if isinstance(session, UnopenedFile):
        raise click.UsageError("--sheet needs a model: give the name of the architecture with --model.")
    if path is None or unit is None:
        raise click.UsageError("--sheet FILE.html and --unit PLACE belong together.")
    save_sheet(session, path, unit, of, terms, lang or "en")
    click.echo(f"{path}: {of} of {unit}, the sheet and its key.")


def _save(session: Session | UnopenedFile, path: Path, lang: str | None) -> None:
    """The page as a file; an error where the file given holds no model by itself."""
    from convscope.explorer.lessons import save_page
    from convscope.explorer.unopened import UnopenedFile

    if isinstance(session, UnopenedFile):
        raise click.UsageError("--save needs a model: give the name of the architecture with --model.")
    save_page(session, path, lang)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB; it opens in any browser, without a network.")


def _session(
    model: str, architecture: str | None, pairs: Sequence[str], data: Dataset | None, item: int | None
) -> Session | UnopenedFile:
    """The model opened, or a card that tells what its file lacks."""
    from convscope.errors import CheckpointError
    from convscope.explorer.session import Session
    from convscope.explorer.unopened import unopened_file
    from convscope.models import create_model
    from convscope.training import describe, load

    path = Path(model)
    if not (path.suffix == ".safetensors" or path.is_file()):
        if architecture is not None:
            raise click.UsageError("--model says whose weights a FILE holds; here no file is given.")
        return Session(create_model(model, **parse_pairs(pairs, "--option")), data, start=item)
    if architecture is not None:
        network = create_model(architecture, weights=path, **parse_pairs(pairs, "--option"))
        return Session(network.eval(), data, path.name, item)
    if pairs:
        raise click.UsageError("-o/--option builds a model: give its name with --model, or no file.")
    if not path.is_file():
        return Session(load(path), data, path.name, item)  # the error names what is missing
    try:
        trained_with = (describe(path).get("config") or {}).get("loss")
        return Session(load(path), data, path.name, item, loss=trained_with)
    except CheckpointError as error:
        return unopened_file(path, error)
