"""``convscope export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from convscope.cli.opening import open_model
from convscope.cli.options import parse_pairs
from convscope.cli.terminal import json_text


@click.command()
@click.argument("model")
@click.option(
    "--output", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where to write. [default: the model's name with .onnx]",
)  # fmt: skip
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Option of the builder, where MODEL is a catalogue name (see: convscope models NAME). A FILE.onnx after -o is "
    "taken for --output.",
)  # fmt: skip
@click.option(
    "--preprocessing/--no-preprocessing", default=False,
    help="Put the scaling of pixels into the graph, which then takes uint8 pictures of the model's size. [default: no]",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Fixed size of a batch. [default: any]")
@click.option("--check/--no-check", default=True, help="Run the file in ONNX Runtime and compare. [default: check]")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def command(
    model: str,
    output: Path | None,
    pairs: Sequence[str],
    preprocessing: bool,
    batch: int | None,
    check: bool,
    as_json: bool,
) -> None:
    """Write MODEL (a saved model's file, or a catalogue name) as ONNX, for other programs to run.

    The description, with class names and preprocessing, goes into the file's metadata.

    \b
    Examples:
      convscope export runs/lenet5-mnist-001/model.safetensors -o lenet5.onnx
      convscope export model.safetensors --output model.onnx --preprocessing
      convscope export resnet18 -o classes=10 --output resnet18.onnx
    """
    from convscope.exporting import export_onnx
    from convscope.exporting.graphs import examples_of

    named = [each for each in pairs if each.endswith(".onnx") and "=" not in each]
    if len(named) > 1 or (named and output is not None):
        raise click.UsageError("one output file, please")
    network, name, _ = open_model(model, parse_pairs([each for each in pairs if each not in named], "--option"))
    place = output or Path(named[0] if named else f"{Path(model).stem if Path(model).is_file() else name}.onnx")
    given = None if batch is None else examples_of(network, batch)
    made = export_onnx(
        network, place, inputs=given, dynamic_batch=batch is None, preprocessing=preprocessing, check=check
    )
    if as_json:
        content = {"path": str(made.path), "inputs": made.inputs, "outputs": made.outputs, "nodes": made.nodes}
        click.echo(json_text({**content, "difference": made.difference, "unchecked": made.unchecked}))
        return
    checked = f"not checked: {made.unchecked}"
    if made.difference is not None:
        checked = f"ONNX Runtime's answers differ by {made.difference:.1e} at most"
    click.echo(f"{made.path}: {made.nodes} nodes, {', '.join(made.inputs)} → {', '.join(made.outputs)}; {checked}")
