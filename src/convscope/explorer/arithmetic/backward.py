"""The sensitivity of one unit as a sum over what it feeds: Σ ∂u_next/∂y · δ_next, times f′ where a non-linearity
stands.

δ of a layer is ∂J/∂u. A unit whose only reader is an activation is explained through it, as the sources do: the sum
runs over the layer behind the activation and is multiplied by f′(u).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from convscope import layers as own
from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.families import FAMILIES
from convscope.explorer.arithmetic.forward import concat_axis
from convscope.explorer.arithmetic.kernels import KernelsByMap
from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles, number, scalar
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, follow, places
from convscope.explorer.arithmetic.windows import window_of
from convscope.rules.elementwise import Elementwise
from convscope.rules.subsample import Subsample

Reader = Callable[[Layer, int, Index, Floats], Terms]
READERS: dict[str, Reader] = {}

HEADINGS = ("∂u/∂y", "δ", "∂u/∂y·δ")
BACKWARD_RULES = ("plain", "deconv", "guided")
# A reader's input that is no factor of its output: its terms are told in the reader's own words.
_OWN = {("grid_sample", 1): ("δ = Σ δ·∂w/∂g·x", ("δ·∂w/∂g", "x", "δ·∂w/∂g·x"))}


def explain(
    layer: Layer,
    unit: Index,
    readers: Callable[[str], Sequence[tuple[Layer, int]]],
    deltas: Mapping[str, torch.Tensor],
    rule: str = "plain",
    partly: bool = False,
) -> Explanation:
    """The arithmetic of δ = ∂J/∂u at ``unit``; with ``partly`` the readers are not all, and what they leave is a
    constant.

    ``readers(name)`` lists the layers that read a layer's output, each with the number of its input; ``deltas`` gives
    δ of every layer by name under the backward ``rule``: "plain" is the derivative; "deconv" and "guided" treat a
    ReLU's δ otherwise (Zeiler and Fergus 2014; Springenberg et al. 2015). The layer must be read by something.
    """
    through: Layer | None = layer if FAMILIES[layer.family].slope else None
    following = list(readers(layer.name))
    if through is None and len(following) == 1 and following[0][0].family == "activation":
        through = following[0][0]
        following = list(readers(through.name))
    value = float(deltas[layer.name][(0, *unit)])
    if layer.delta_at_input and layer.family != "activation":
        return _through_itself(layer, unit, value)
    parts, names, silent = [], [], []
    for reader, place in following:
        part = back_through(reader, place, unit, doubles(deltas[reader.name][0]))
        parts.append(part)
        names.append(reader.name)
        if (why := _silence(reader, unit, part)) is not None:
            silent.append((reader.name, why))
    terms = Terms.join(parts)
    steps: list[Line] = []
    formula = "δ = Σ ∂u/∂y·δ"
    if through is not None:
        above = float(terms.product.sum())
        steps.append(Line("=", "∂J/∂y", above))
        steps.append(_factor(through, unit, above, rule))
        formula = "δ = f′(u)·Σ ∂u/∂y·δ"
    if partly:
        steps.append(Line("+", "c", value - follow(float(terms.product.sum()), tuple(steps))))
    steps.append(Line("=", "δ", value))
    formula, headings = _worded(formula, following)
    return Explanation(
        layer.name,
        "backward",
        layer.family,
        unit,
        formula,
        headings,
        terms,
        tuple(steps),
        value,
        tuple(names),
        through=through.name if through is not None and through is not layer else None,
        note=rule if through is not None and is_relu(through) else "",
        silent=tuple(silent),
    )


def _worded(formula: str, following: Sequence[tuple[Layer, int]]) -> tuple[str, tuple[str, str, str]]:
    """The formula and the columns' headings in the readers' own letters."""
    if all(FAMILIES[reader.family].weights for reader, _ in following):
        return formula.replace("∂u/∂y", "w"), ("w", "δ", "w·δ")
    if len(following) == 1:
        return _OWN.get((following[0][0].family, following[0][1]), (formula, HEADINGS))
    return formula, HEADINGS


def _silence(reader: Layer, unit: Index, part: Terms) -> str | None:
    """Why a reader with windows sends nothing back to a unit, whatever its δ is; None where it may."""
    window = window_of(reader)
    if window is None or part.coefficient is None or part.coefficient.any() or reader.inputs[0].ndim != len(unit) + 1:
        return None
    _, outputs = window.readers(unit[1:], tuple(reader.y.shape[2:]))
    if not len(outputs):
        return "stepped_over"
    return "lost" if FAMILIES[reader.family].picks else None


def _through_itself(layer: Layer, unit: Index, value: float) -> Explanation:
    """A layer such as softmax, whose δ stands before it: its own derivative times ∂J/∂y."""
    assert layer.upstream is not None
    terms = _jacobian(layer, 0, unit, doubles(layer.upstream[0]))
    headings = ("∂y/∂u", "∂J/∂y", "∂y/∂u·∂J/∂y")
    steps = (Line("=", "δ", value),)
    formula = "δ = Σ ∂y/∂u·∂J/∂y"
    return Explanation(
        layer.name, "backward", layer.family, unit, formula, headings, terms, steps, value, (layer.name,)
    )


def back_through(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    """The terms that δ of ``reader`` (without the batch) sends to position ``index`` of its input ``place``."""
    if reader.delta_at_input:
        return _one(1.0, float(delta[index]), index)
    return READERS.get(reader.family, _jacobian)(reader, place, index, delta)


def is_relu(layer: Layer) -> bool:
    """Whether a deconvnet and guided backpropagation treat its δ in their own way."""
    return isinstance(layer.rule, Elementwise) and layer.rule.rectifies


def derivative(layer: Layer, unit: Index) -> float:
    """f′(u) of an activation, or of a subsampling layer's own activation, in float64."""
    rule = layer.rule.activation if isinstance(layer.rule, Subsample) else layer.rule
    if isinstance(rule, Elementwise):
        return scalar(rule.slope_at(layer.u[(0, *unit)].detach().double().reshape(1)))
    return float(local.row(layer, unit)[0][unit])


def _factor(through: Layer, unit: Index, above: float, rule: str) -> Line:
    """What multiplies ∂J/∂y: f′(u), or what a deconvnet or guided backpropagation puts in its place at a ReLU."""
    slope = derivative(through, unit)
    if rule != "plain" and is_relu(through):
        passes = float(above > 0)
        return Line(
            "×", "[∂J/∂y > 0]" if rule == "deconv" else "f′(u)·[∂J/∂y > 0]", passes * (slope if rule == "guided" else 1)
        )
    return Line("×", "f′(u)", slope)


def reads(*families: str) -> Callable[[Reader], Reader]:
    def enrol(reader: Reader) -> Reader:
        for name in families:
            READERS[name] = reader
        return reader

    return enrol


@reads("conv")
def _conv(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    window, kernels = window_of(reader), KernelsByMap(reader)
    assert window is not None
    offsets, outputs = window.readers(index[1:], delta.shape[1:])
    flat = np.ravel_multi_index(tuple(offsets.T), window.kernel) if len(offsets) else np.zeros(0, np.int64)
    maps, weights, where = kernels.fed_by(index[0])
    coefficient = weights[:, flat]  # (m, hits)
    values = delta[(maps[:, None], *(column[None, :] for column in outputs.T))]
    m, hits = coefficient.shape
    return Terms(
        value=values.reshape(-1),
        product=(coefficient * values).reshape(-1),
        coefficient=coefficient.reshape(-1),
        source=np.concatenate([np.repeat(maps, hits)[:, None], np.tile(outputs, (m, 1))], axis=1),
        weight=where[:, flat].reshape(m * hits, where.shape[-1]),  # (0, …) where every window steps over the place
        parameter="weight",
    )


@reads("linear")
def _linear(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    module: Any = reader.module
    weights = doubles(module.weight[:, index[-1]])
    values = delta[index[:-1]]
    rows = np.arange(len(values))
    leading = [np.full(len(values), at) for at in index[:-1]]
    return Terms(
        value=values,
        product=weights * values,
        coefficient=weights,
        source=places(*leading, rows, rows=len(rows)),
        weight=places(rows, index[-1], rows=len(rows)),
        parameter="weight",
    )


@reads("identity")
def _identity(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    return _one(1.0, float(delta[index]), index)


@reads("batch_norm")
def _batch_norm(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    module: Any = reader.module
    slope = 1 / np.sqrt(float(module.running_var[index[0]]) + module.eps)
    if module.affine:
        slope *= scalar(module.weight[index[0]])
    return _one(float(slope), float(delta[index]), index)


@reads("add")
def _add(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    if reader.inputs[place].shape != reader.y.shape or reader.keywords.get("alpha", 1) != 1:
        return _jacobian(reader, place, index, delta)
    return _one(1.0, float(delta[index]), index)


@reads("concat")
def _concat(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    axis = concat_axis(reader)
    if axis < 0:
        return _jacobian(reader, place, index, delta)
    before = sum(value.shape[axis + 1] for value in reader.inputs[:place])
    at = (*index[:axis], index[axis] + before, *index[axis + 1 :])
    return _one(1.0, float(delta[at]), at)


@reads("reshape")
def _reshape(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    flat = np.ravel_multi_index(index, tuple(reader.inputs[0].shape[1:])) if index else 0
    at = tuple(int(side) for side in np.unravel_index(int(flat), delta.shape))
    return _one(1.0, float(delta[at]), at)


@reads("total", "total_across")
def _total(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    rule: Any = reader.rule
    over = {dim % reader.inputs[0].ndim for dim in rule.over}
    kept = [0 if dim in over else index[dim - 1] for dim in range(1, len(index) + 1) if rule.keepdim or dim not in over]
    share = 1 / math.prod(reader.inputs[0].shape[dim] for dim in over) if rule.mean else 1.0
    return _one(share, float(delta[tuple(kept)]), tuple(kept))


@reads("rbf")
def _rbf(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    assert isinstance(reader.module, own.RBF)
    coefficient = 2 * (number(reader.inputs[0], index) - doubles(reader.module.weight[:, index[0]]))
    rows = np.arange(len(delta))
    return Terms(delta, coefficient * delta, coefficient, source=rows[:, None])


@reads("mean_pool", "sum_pool", "max_pool", "min_pool", "median_pool", "l2_pool", "subsample")
def _pool(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    """Each window over the position; for a maximum the coefficient is 1 where this position won and 0 elsewhere."""
    from convscope.explorer.arithmetic.forward import explain as forward

    window = window_of(reader)
    if window is None or reader.inputs[0].ndim != len(index) + 1:
        return _jacobian(reader, place, index, delta)
    _, outputs = window.readers(index[1:], delta.shape[1:])
    coefficients = []
    for output in outputs:
        unit = (index[0], *(int(at) for at in output))
        terms = forward(reader, unit).terms
        assert terms.source is not None
        row = int(np.flatnonzero((terms.source == np.array(index)).all(axis=1))[0])
        if reader.family == "l2_pool":
            norm = number(reader.y, unit)
            coefficients.append(float(terms.value[row]) / norm if norm else 0.0)
        elif reader.family == "subsample":
            coefficients.append(scalar(reader.module.weight[index[0]]))  # type: ignore[union-attr,index]
        else:
            assert terms.coefficient is not None
            coefficients.append(float(terms.coefficient[row]))
    coefficient = np.array(coefficients)
    values = np.array([float(delta[(index[0], *output)]) for output in outputs])
    source = places(index[0], *outputs.T, rows=len(outputs)) if len(outputs) else np.zeros((0, len(index)), np.int64)
    return Terms(values, coefficient * values, coefficient, source=source)


def _jacobian(reader: Layer, place: int, index: Index, delta: Floats) -> Terms:
    coefficient = local.column(reader, place, index)
    hit = np.argwhere(coefficient != 0)
    picked = coefficient[coefficient != 0]
    values = delta[coefficient != 0]
    return Terms(values, picked * values, picked, source=hit)


def _one(coefficient: float, value: float, at: Index) -> Terms:
    return Terms(
        np.array([value]),
        np.array([coefficient * value]),
        np.array([coefficient]),
        source=np.array([at], np.int64).reshape(1, len(at)),
    )
