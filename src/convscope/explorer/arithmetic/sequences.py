"""A step of an LSTM, a unit of an attention layer and a largest over time, written out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope import layers as own
from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.forward import explanation, family, linearised
from convscope.explorer.arithmetic.layer import Index, Layer, doubles, number, scalar
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, places


@family("attention")
def _attention(layer: Layer, unit: Index) -> Explanation:
    """Of each key what it says of this unit through each head, times how much the query looks at it."""
    module = local.doubled(layer.module)
    assert isinstance(module, own.MultiHeadAttention)
    found: dict[str, Any] = {}

    def look(query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> None:
        _, values = module.remember(query if keys is None else keys)
        found.update(weights=module.weights(query, keys, seen), values=values, origin=0 if keys is None else 1)

    with torch.no_grad():
        layer.call(*[x.double() if x.is_floating_point() else x for x in layer.inputs], module=look)  # type: ignore[arg-type]
        weights, values = found["weights"][0, :, unit[0]], found["values"][0]  # (heads, j), (heads, j, size/heads)
        said = torch.einsum("hje,he->hj", values, module.out_weight[unit[1]].reshape(len(weights), -1))
    heads, keys = weights.shape
    rows = np.tile(np.arange(keys), heads)
    terms = Terms(
        value=doubles(said).reshape(-1),
        product=doubles(weights * said).reshape(-1),
        coefficient=doubles(weights).reshape(-1),
        source=places(rows, -1, rows=len(rows)),
        origin=np.full(len(rows), found["origin"]),
    )
    steps = (Line("+", "b", scalar(module.out_bias[unit[1]])), Line("=", "y", number(layer.y, unit)))
    formula = "y = Σ_heads Σ_keys a·(W_o·v) + b,  a = softmax(q·k/√e)"
    return explanation(layer, unit, formula, ("a", "W_o·v", "a·(W_o·v)"), terms, *steps)


@family("max_over_time")
def _max_over_time(layer: Layer, unit: Index) -> Explanation:
    """The largest of one channel; the coefficient says which it is."""
    if len(layer.inputs) != 1:
        return linearised(layer, unit)
    values = doubles(layer.inputs[0][0, unit[0]])
    picked = np.eye(len(values))[int(values.argmax())]
    rows = np.arange(len(values))
    terms = Terms(values, picked * values, picked, source=places(unit[0], rows, rows=len(rows)))
    return explanation(layer, unit, "y = max(x)", ("c", "x", "c·x"), terms, Line("=", "y", number(layer.y, unit)))


@dataclasses.dataclass(frozen=True)
class _Step:
    """One step of one direction, float64: what it read, its gates and what it was left with, each (hidden,)."""

    before: Tensor
    gates: tuple[Tensor, Tensor, Tensor, Tensor]  # i, f, g, o
    cell: Tensor
    h: Tensor


@family("lstm")
def _lstm(layer: Layer, unit: Index) -> Explanation:
    """c = f·c₋₁ + i·g and h = o·tanh c of one step; behind that the four gates, each from its own sum."""
    module = local.doubled(layer.module)
    assert isinstance(module, own.RecurrentLayers)
    x = layer.inputs[0][0].double()
    if any(int(lengths[0]) != len(x) for lengths in layer.inputs[1:]):  # steps beyond a sequence's end are 0
        return linearised(layer, unit)
    with torch.no_grad():
        for depth in range(module.num_layers):
            ways = [_swept(module, x, depth, back) for back in range(1 + module.bidirectional)]
            x = torch.cat([torch.stack([step.h for step in way]) for way in ways], 1)
    way, cell = divmod(unit[1], module.hidden_size)
    step = ways[way][unit[0]]
    i, f, g, o = (float(gate[cell]) for gate in step.gates)
    before, c = float(step.before[cell]), float(step.cell[cell])
    terms = Terms(np.array([before, g]), np.array([f * before, i * g]), np.array([f, i]))
    steps = (
        Line("=", "c", c), Line("f", "tanh", float(np.tanh(c))), Line("×", "o", o),
        Line("=", "h", number(layer.y, unit)),
        Line("=", "i = σ(W_i·x + U_i·h₋₁ + b)", i), Line("=", "f = σ(W_f·x + U_f·h₋₁ + b)", f),
        Line("=", "g = tanh(W_g·x + U_g·h₋₁ + b)", g), Line("=", "o = σ(W_o·x + U_o·h₋₁ + b)", o),
    )  # fmt: skip
    formula = "h = o·tanh(c),  c = f·c₋₁ + i·g"
    return explanation(layer, unit, formula, ("f, i", "c₋₁, g", "f·c₋₁, i·g"), terms, *steps)


def _swept(module: own.RecurrentLayers, x: Tensor, depth: int, back: int) -> list[_Step]:
    """All steps (t, …) of one layer in one direction, in the order of time."""
    suffix = f"_l{depth}" + ("_reverse" if back else "")
    w, u, b, d = (getattr(module.cells, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = cell = torch.zeros(module.hidden_size, dtype=x.dtype)
    found = []
    for row in x.flip(0) if back else x:
        i, f, g, o = (w @ row + u @ h + b + d).chunk(4)
        gates = (i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid())
        before, cell = cell, gates[1] * cell + gates[0] * gates[2]
        h = gates[3] * cell.tanh()
        found.append(_Step(before, gates, cell, h))
    return found[::-1] if back else found
