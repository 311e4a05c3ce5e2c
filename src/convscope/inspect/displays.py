"""Traces and counts as a notebook shows them."""

from __future__ import annotations

import torch

from convscope.displays import html, picture, table
from convscope.inspect.count import Count
from convscope.inspect.trace import Trace

_DRAWN = 4  # layers whose maps are drawn; all are in the table
_SHAPED = 3  # dimensions of one example's maps


@html.register
def _trace(trace: Trace) -> str:
    """A row a layer, and the first example's maps, y, of the first few layers that have some."""
    from convscope.inspect.pictures import as_png, maps_figure

    rows = [("layer", "kind", "output", "mean |y|", "mean |δ|", "parameters")]
    drawn: list[str] = []
    for layer in trace:
        y = layer.y
        if not isinstance(y, torch.Tensor):
            rows.append((layer.name, layer.type, "–", "–", "–", "–"))
            continue
        delta = layer.delta if isinstance(layer.delta, torch.Tensor) else None
        parameters = 0 if layer.module is None else sum(each.numel() for each in layer.module.parameters())
        shape = "×".join(map(str, y.shape[1:]))
        rows.append((layer.name, layer.type, shape, _mean(y), _mean(delta), f"{parameters:,}" if parameters else "–"))
        if len(drawn) < _DRAWN and y.ndim == 1 + _SHAPED and y.is_floating_point():
            drawn.append(picture(as_png(maps_figure(layer.name, y[0], "activations")), f"maps of {layer.name}"))
    loss = "" if trace.loss is None else f"<p>J = {float(trace.loss.detach()):.6g}</p>"
    return loss + table(rows, left=3) + "".join(drawn)


@html.register
def _count(count: Count) -> str:
    rows = [("layer", "kind", "output", "parameters", "multiply-adds", "operations", "activations")]
    for layer in count:
        shape = "×".join(map(str, layer.output_shape)) if layer.output_shape is not None else "–"
        numbers = (layer.parameters, layer.multiply_adds, layer.operations, layer.activations)
        told = [f"{number:,}" for number in numbers]
        rows.append((layer.name, layer.kind, shape, told[0], told[1], told[2], told[3]))
    totals = [f"{n:,}" for n in (count.parameters, count.multiply_adds, count.operations, count.activations)]
    shape = count.input_size + " in"
    rows.append(("total", "", shape, totals[0], totals[1], totals[2], totals[3]))
    return table(rows, left=3)


def _mean(values: torch.Tensor | None) -> str:
    return "–" if values is None or not values.numel() else f"{float(values.detach().abs().double().mean()):.3g}"
