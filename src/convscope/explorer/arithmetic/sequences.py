"""A step of an LSTM, a largest over time and layer normalisation, written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from convscope import layers as own
from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.forward import explanation, family, linearised
from convscope.explorer.arithmetic.layer import Index, Layer, doubles, number, scalar
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, places


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


@family("layer_norm")
def _layer_norm(layer: Layer, unit: Index) -> Explanation:
    """Mean and variance are those of the row that the unit is of."""
    module = layer.module
    assert isinstance(module, nn.LayerNorm)
    row = doubles(layer.inputs[0][(0, *unit[:-1])])
    mean, variance = float(row.mean()), float(row.var())
    steps = [Line("−", "μ", mean), Line("÷", "√(σ²+ε)", float(np.sqrt(variance + module.eps)))]
    for symbol, operation, parameter in (("γ", "×", module.weight), ("β", "+", module.bias)):
        if parameter is not None:
            steps.append(Line(operation, symbol, scalar(parameter[unit[-1]])))  # type: ignore[arg-type]
    value = np.array([number(layer.inputs[0], unit)])
    terms = Terms(value, value.copy(), source=np.array([unit], np.int64).reshape(1, len(unit)))
    formula = "y = γ·(x − μ)/√(σ²+ε) + β"
    return explanation(layer, unit, formula, ("", "x", "x"), terms, *steps, Line("=", "y", number(layer.y, unit)))


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
