"""Options that several commands share, option groups in the help, and ``key=value`` arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from convscope.data import Dataset

F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that the help lists below a heading of its own."""

    def __init__(self, *args: Any, heading: str = "Options", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose help lists its options by heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):  # the usage line has those
                headings.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        for heading in [*(name for name in headings if name != "Options"), "Options"]:
            if heading in headings:
                with formatter.section(heading):
                    formatter.write_dl(headings[heading])


def data_options(required: bool = False, default: str | None = None) -> Callable[[F], F]:
    """``--data``, ``--root`` and ``--data-option``."""

    def decorate(function: F) -> F:
        shown = "" if default is None else f" [default: {default}]"
        options = [
            click.option(
                "-d", "--data", required=required, metavar="NAME|PATH", cls=GroupedOption, heading="Data",
                help="Data set by name (see: convscope datasets), a folder with a folder of pictures a class, or an "
                f".npz file.{shown}",
            ),
            click.option(
                "--root", type=click.Path(path_type=Path), metavar="DIR", cls=GroupedOption, heading="Data",
                help="Folder that holds a folder for each named data set. [default: $CONVSCOPE_DATA, else "
                "~/.cache/convscope]",
            ),
            click.option(
                "--data-option", "data_pairs", multiple=True, metavar="KEY=VALUE", cls=GroupedOption, heading="Data",
                help="Option of the data set's loader, e.g. classes=cat,dog or size=64; may be repeated.",
            ),
        ]  # fmt: skip
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def load_data(name: str, root: Path | None, pairs: Sequence[str]) -> Dataset:
    """The data set that the three options name."""
    from convscope.data import load_dataset

    return load_dataset(name, root=root, **parse_pairs(pairs, "--data-option"))


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """``["activation=relu", "size=32"]`` as ``{"activation": "relu", "size": 32}``.

    Values are read as JSON where they are JSON (numbers, true, false, null, lists), else as text.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not sign or not key:
            raise click.BadParameter(f"got {pair!r}, wanted key=value, for example activation=relu", param_hint=option)
        found[key] = parse_value(value.strip())
    return found


def parse_value(text: str) -> Any:
    """A JSON value, Python's True, False and None, else the text itself."""
    named = {"True": True, "False": False, "None": None, "none": None}
    if text in named:
        return named[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
