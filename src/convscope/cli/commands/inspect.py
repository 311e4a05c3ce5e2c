"""``convscope inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convscope.cli.opening import class_of, open_model
from convscope.cli.options import GroupedCommand, data_options, load_data, parse_pairs

if TYPE_CHECKING:
    from torch import nn

    from convscope.inspect.album import Example

_BATCH = 64


@click.command(cls=GroupedCommand)
@click.argument("model")
@data_options()
@click.option(
    "--image", type=click.Path(path_type=Path), metavar="FILE", help="A picture to send through the network."
)  # fmt: skip
@click.option("--index", type=click.IntRange(min=0), default=0, show_default=True, help="Which test picture of --data.")
@click.option(
    "--target", metavar="CLASS", help="Class to take back from. [default: the picture's own, or the first guess]"
)
@click.option("--loss", metavar="NAME", help="Loss to take back. [default: the architecture's own]")
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Pictures of this layer only; may be repeated.")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of a catalogue model's builder."
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write. [default: inspect-<model>]"
)
def command(
    model: str,
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    image: Path | None,
    index: int,
    target: str | None,
    loss: str | None,
    layers: Sequence[str],
    pairs: Sequence[str],
    out: Path | None,
) -> None:
    """Write what can be seen inside MODEL (a saved model, or a catalogue name with fresh weights) into a folder.

    Always: the layer table (shapes, parameters, multiply-adds, receptive fields), every convolution compared with a
    dense matrix, the graph, every layer's kernels. With --data or --image also one example's feature maps,
    sensitivities δ and gradients, histograms and dead units over up to 64 pictures, and how each layer's maps follow a
    picture that moves, turns or grows.

    \b
    Examples:
      convscope inspect runs/lenet5-mnist-001/model.safetensors --data mnist --index 7
      convscope inspect model.safetensors --image seven.png --target 1 --out seven/
      convscope inspect lenet5_1998
    """
    from convscope.inspect.album import write_album
    from convscope.models.catalog import default_loss

    network, name, trained_with = open_model(model, parse_pairs(pairs, "--option"))
    if data is not None and image is not None:
        raise click.UsageError("Give --data or --image, not both.")
    if image is None and data is None and (index or target is not None):
        raise click.UsageError("--index and --target need --data or --image.")
    example = None
    if data is not None or image is not None:
        example = _example(network, data, root, data_pairs, image, index, target)
    folder = out or Path(f"inspect-{Path(name).stem if Path(name).suffix else name}")
    number = 0
    chosen = loss or trained_with or default_loss(network)
    for path in write_album(network, folder, name, chosen, example, layers):
        number += 1
        if path.name == "layers.txt":
            click.echo(path.read_text(encoding="utf-8"))
    click.echo(f"{number} files in {folder}; open {folder / 'index.html'}")


def _example(
    network: nn.Module,
    data: str | None,
    root: Path | None,
    data_pairs: Sequence[str],
    image: Path | None,
    index: int,
    target: str | None,
) -> Example:
    import torch

    from convscope.data import prepare
    from convscope.data.pictures import load_picture
    from convscope.errors import ArgumentError
    from convscope.inspect.album import Example
    from convscope.inspect.inputs import input_of
    from convscope.spec import spec_of

    described = spec_of(network)
    classes = described.classes if described is not None else ()
    dataset = load_data(data, root, data_pairs) if data is not None else None
    takes = input_of(network, dataset)
    preprocessing = takes.preprocessing
    if takes.note:
        click.echo(takes.note, err=True)
    if image is not None:
        pixels, labels = load_picture(image)[None], None
        place = 0
    else:
        assert dataset is not None
        if index >= len(dataset.test):
            raise ArgumentError("index", index, f"a test picture's number, 0…{len(dataset.test) - 1}")
        chosen = torch.arange(min(_BATCH, len(dataset.test)))
        if index >= len(chosen):
            chosen[0] = index
        part = dataset.test.select(chosen)
        pixels, labels, place = part.images, part.labels, 0 if index >= len(chosen) else index
        if classes and dataset.classes != classes:
            labels = None  # other classes than the model's: no true class to take back from
        classes = classes or dataset.classes
    pixels = prepare(pixels, preprocessing)
    x = preprocessing.normalise(pixels).reshape(len(pixels), *takes.shape)
    wanted: int | None = None
    if target is not None:
        wanted = class_of(target, classes)
    elif labels is not None:
        wanted = int(labels[place])
    return Example(x[place : place + 1], wanted, x, labels, tuple(classes), pixels[place])
