"""Everything there is to see in a model, written into a folder: tables as text, the rest as pictures.

layers.txt dense.txt graph.png graph.svg      the architecture and what it costs
kernels/                                      every layer's kernels
maps/ delta/ gradients/                       one example: values forward, sensitivities back, ∂J/∂K and ∂J/∂x
picture.png outputs.png histograms.png dead.txt   … and a batch: how values are spread, which units never fire
equivariance.txt equivariance.png             how each layer's maps follow a picture that moves, turns or grows
index.html                                    all of it on one page
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from convscope.graph.calls import Walk, walk
from convscope.graph.training_modes import looking
from convscope.inspect.count import count
from convscope.inspect.equivariance import SHIFTS, equivariance
from convscope.inspect.files import write_whole
from convscope.inspect.pictures import (
    bars_figure,
    equivariance_figure,
    graph_figure,
    histograms_figure,
    kernel_gradient_figure,
    kernels_figure,
    kernels_of_model,
    maps_figure,
    picture_figure,
    save_picture,
)
from convscope.inspect.pictures.canvas import numbers
from convscope.inspect.pictures.kernels import KernelSheet, arranged
from convscope.inspect.receptive_field import ReceptiveFields
from convscope.inspect.statistics import dead_table, layer_statistics
from convscope.inspect.tables import dense_table, layer_table
from convscope.inspect.trace import LayerTrace, trace
from convscope.layers import Loss

_CHANGED = 4  # pictures that are moved, turned and grown: ten passes of the network for each


@dataclasses.dataclass(frozen=True)
class Example:
    """One input (1, c, h, w) with its class, and a batch (n, c, h, w) for statistics; a class may be unknown (None)."""

    x: Tensor
    target: int | None
    batch: Tensor
    batch_targets: Tensor | None
    classes: tuple[str, ...] = ()
    picture: Tensor | None = None  # x as uint8 (c, h, w), before normalisation


def write_album(
    model: nn.Module,
    folder: str | Path,
    title: str,
    loss: str | Loss = "cross_entropy",
    example: Example | None = None,
    layers: Sequence[str] = (),
) -> Iterator[Path]:
    """Write all of it below ``folder``, yielding every file as it is there.

    Without an ``example`` only what the weights and the graph show. ``layers`` keeps the pictures to these layers. An
    example without a class is taken back from the class the model itself puts first. Raises DataError where the folder
    cannot be written, UnknownNameError for a layer that is not there.
    """
    out = Path(folder)
    walked = walk(model)
    wanted = {walked[name].name for name in layers}
    counts, fields = count(model), ReceptiveFields(model)
    written: list[Path] = []

    def note(path: Path) -> Path:
        written.append(path)
        return path

    yield note(_write(out / "layers.txt", layer_table(counts, fields)))
    yield note(_write(out / "dense.txt", dense_table(counts)))
    drawing = graph_figure(walked, title)
    for suffix in (".png", ".svg"):
        yield note(save_picture(drawing, out / f"graph{suffix}"))
    position = {step.name: index for index, step in enumerate(walked)}
    for kernels in kernels_of_model(walked):
        if not wanted or kernels.name in wanted:
            yield note(save_picture(kernels_figure(kernels), _path(out / "kernels", kernels.name, position)))
    if example is not None:
        for path in _example(model, out, loss, example, wanted, walked, position):
            yield note(path)
    yield _index(out, title, written)


def _example(
    model: nn.Module,
    out: Path,
    loss: str | Loss,
    example: Example,
    wanted: set[str],
    walked: Walk,
    position: dict[str, int],
) -> Iterator[Path]:
    with looking(model):
        forward = trace(model, example.x, loss=loss)
        target = example.target
        if target is None:
            target = int((-forward.logits if loss == "rbf" else forward.logits)[0].argmax())
        traced = trace(model, example.x, target, loss=loss)
        by_name = {kernels.name: kernels for kernels in kernels_of_model(walked)}
        if example.picture is not None:
            label = f"class {example.classes[target] if target < len(example.classes) else target}"
            yield save_picture(picture_figure(example.picture, label), out / "picture.png")
        yield save_picture(maps_figure("input", example.x[0], "activations"), out / "maps" / "00-input.png")
        for layer in traced:
            if (not wanted or layer.name in wanted) and isinstance(layer.y, Tensor):
                for kind, figure in _layer_figures(layer, by_name.get(layer.name)):
                    yield save_picture(figure, _path(out / kind, layer.name, position))
        if traced.grad_x is not None:
            figure = maps_figure("input", traced.grad_x[0], "gradients", "∂J/∂x")
            yield save_picture(figure, out / "gradients" / "00-input.png")
        outputs = traced.logits[0]
        yield save_picture(bars_figure(traced.layers[-1].name, outputs, example.classes, target), out / "outputs.png")
        targets = example.batch_targets
        if targets is None:
            ran = trace(model, example.batch, loss=loss).logits
            targets = (-ran if loss == "rbf" else ran).argmax(1)
        statistics = layer_statistics(trace(model, example.batch, targets, loss=loss))
    rows = [
        (
            item.name,
            item.activation,
            item.delta,
            f"{item.dead} of {item.units} units dead" if item.dead is not None else "",
        )
        for item in statistics
    ]
    figure = histograms_figure(rows, "activations and sensitivities", len(example.batch))
    yield save_picture(figure, out / "histograms.png")
    yield _write(out / "dead.txt", f"over {len(example.batch)} pictures\n\n{dead_table(statistics)}")
    if example.x.ndim == 4:
        yield from _equivariance(model, out, example.batch[:_CHANGED], sorted(wanted, key=position.__getitem__))


def _equivariance(model: nn.Module, out: Path, x: Tensor, names: Sequence[str]) -> Iterator[Path]:
    shifts = [shift for shift in SHIFTS if shift < min(x.shape[2:])]
    found = equivariance(model, x, names or None, shifts=shifts)
    yield _write(out / "equivariance.txt", str(found))
    yield save_picture(equivariance_figure(found, "equivariance"), out / "equivariance.png")


def _layer_figures(layer: LayerTrace, kernels: KernelSheet | None) -> Iterator[tuple[str, Figure]]:
    yield "maps", maps_figure(layer.name, layer.y[0], "activations", layer.type)
    if isinstance(layer.delta, torch.Tensor):
        yield "delta", maps_figure(layer.name, layer.delta[0], "delta", layer.type)
    gradient = layer.gradients.get("weight")
    if gradient is not None and kernels is not None and layer.module is not None:
        values = arranged(layer.module, gradient, kernels)
        yield "gradients", kernel_gradient_figure(dataclasses.replace(kernels, values=numbers(values)))


def _path(folder: Path, name: str, position: dict[str, int]) -> Path:
    """Numbered in forward order, with only such signs as every file system takes."""
    return folder / f"{position.get(name, 0) + 1:02d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.png"


def _write(path: Path, text: str) -> Path:
    return write_whole(path, lambda file: file.write(f"{text}\n".encode()))


def _index(out: Path, title: str, written: Sequence[Path]) -> Path:
    """A page without scripts that shows every table and picture."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    heading = ""
    for path in written:
        name = path.relative_to(out).as_posix()
        if path.suffix == ".txt":
            parts.append(f"<h2>{name}</h2><pre>{html.escape(path.read_text(encoding='utf-8'))}</pre>")
        elif path.suffix == ".png":
            group = path.parent.name if path.parent != out else path.stem
            if group != heading:
                heading = group
                parts.append(f"<h2>{html.escape(group)}</h2>")
            parts.append(f'<img src="{html.escape(name)}" alt="{html.escape(path.stem)}" loading="lazy">')
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#1f2430;background:#fff}"
        "img{max-width:100%;margin:.5rem;border:1px solid #e6e8ec}pre{overflow:auto;font-size:12px}"
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><body>{''.join(parts)}</body></html>"
    )
    return _write(out / "index.html", page)
