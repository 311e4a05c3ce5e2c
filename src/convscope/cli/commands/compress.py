"""``convscope compress``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convscope.cli.options import GroupedCommand
from convscope.cli.terminal import json_text

if TYPE_CHECKING:
    from convscope.models.compressing import Compressed


@click.command(cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="Model file to write. [default: compressed.safetensors beside FILE]",
)  # fmt: skip
@click.option(
    "--energy", type=float, metavar="SHARE",
    help="Keep as many singular values as hold this share of their squares, 0 to 1. [default: 0.95]",
)  # fmt: skip
@click.option(
    "--rank", "ranks", multiple=True, metavar="N|LAYER=N",
    help="Keep N singular values, of every layer or of the one named; may be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the layers as JSON.")
def command(file: Path, out: Path | None, energy: float | None, ranks: tuple[str, ...], as_json: bool) -> None:
    """Make the fully connected layers of the saved model FILE two smaller ones each, by a truncated singular value
    decomposition, where that is fewer weights, and list what each has become.

    The new file is used, measured and trained on like any other; how much worse it is, `convscope evaluate` tells.

    \b
    Examples:
      convscope compress runs/alexnet-cifar10-001/model.safetensors --energy 0.9 -o small.safetensors
      convscope compress model.safetensors --rank fc6=256 --rank fc7=64
    """
    from convscope.models.compressing import compress, compression_of
    from convscope.models.modelfile import describe, load, save

    if energy is not None and ranks:
        raise click.UsageError("Give --energy or --rank, not both.")
    known = describe(file)
    model = load(file)
    share = 0.95 if energy is None else energy
    small = compress(model, rank=_ranks(ranks)) if ranks else compress(model, energy=share)
    kept = {name: value for name, value in known.items() if name not in ("format", "kind", "model", "metrics")}
    rows = compression_of(small)
    path = save(
        small, out or file.with_name("compressed.safetensors"), compression=[_plain(row) for row in rows], **kept
    )
    before = sum(each.numel() for each in model.parameters())
    after = sum(each.numel() for each in small.parameters())
    if as_json:
        layers = [_plain(row) for row in rows]
        click.echo(json_text({"file": str(path), "layers": layers, "parameters": {"before": before, "after": after}}))
        return
    _print(rows)
    click.echo(f"{path}: {after:,} parameters, {after / before:.1%} of {before:,}")


def _ranks(given: tuple[str, ...]) -> int | dict[str, int]:
    """One number for all layers, or numbers by layer."""
    named: dict[str, int] = {}
    for each in given:
        name, _, number = each.rpartition("=")
        if not number.isdigit() or (not name and len(given) > 1):
            raise click.UsageError(f"--rank {each}: one number for all layers, or LAYER=NUMBER for each.")
        if not name:
            return int(number)
        named[name] = int(number)
    return named


def _plain(row: Compressed) -> dict[str, object]:
    import dataclasses

    return {**dataclasses.asdict(row), "shape": list(row.shape)}


def _print(rows: tuple[Compressed, ...]) -> None:
    from convscope.columns import aligned

    table = [("layer", "outputs × inputs", "rank", "weights", "now", "error", "")]
    for row in rows:
        u, v = row.shape
        rank, error = ("–", "–") if row.rank is None else (str(row.rank), f"{row.error:.2%}")
        table.append((row.name, f"{u} × {v}", rank, f"{row.before:,}", f"{row.after:,}", error, row.reason))
    click.echo(aligned(table, left=1))
