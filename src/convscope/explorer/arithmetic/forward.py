"""The complete sum of one unit's value: which inputs, times which weights, and what follows.

One function a family of layers, enrolled by name; a layer of no known family is shown by its local derivative.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from convscope import layers as own
from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.kernels import KernelsByMap
from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles, number, scalar
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, places
from convscope.explorer.arithmetic.windows import adaptive_range, window_of
from convscope.rules.elementwise import row_of

Writer = Callable[[Layer, Index], Explanation]
FORWARD: dict[str, Writer] = {}

WX = ("w", "x", "w·x")


def explain(layer: Layer, unit: Index) -> Explanation:
    """The arithmetic of ``layer.y[unit]``; ``unit`` is without the batch and must lie in the layer's output."""
    return FORWARD.get(layer.family, linearised)(layer, unit)


def family(*names: str) -> Callable[[Writer], Writer]:
    def enrol(writer: Writer) -> Writer:
        for name in names:
            FORWARD[name] = writer
        return writer

    return enrol


def explanation(
    layer: Layer,
    unit: Index,
    formula: str,
    headings: tuple[str, str, str],
    terms: Terms,
    *steps: Line,
    note: str = "",
) -> Explanation:
    value = number(layer.y, unit)
    return Explanation(
        layer.name, "forward", layer.family, unit, formula, headings, terms, steps, value, layer.sources, note=note
    )


@family("conv")
def _conv(layer: Layer, unit: Index) -> Explanation:
    window, kernels = window_of(layer), KernelsByMap(layer)
    assert window is not None
    x = layer.inputs[0]
    positions, inside = window.read(unit[1:], tuple(x.shape[2:]))
    maps, weights, where = kernels.feeding(unit[0])
    clipped = np.clip(positions, 0, np.array(x.shape[2:]) - 1)
    values = doubles(x[0][torch.from_numpy(maps)][(slice(None), *torch.from_numpy(clipped).T)]) * inside  # (m, k)
    m, k = values.shape
    source = np.concatenate(
        [np.repeat(maps, k)[:, None], np.broadcast_to(positions[None], (m, k, positions.shape[1])).reshape(m * k, -1)],
        axis=1,
    )
    terms = Terms(
        value=values.reshape(-1),
        product=(weights * values).reshape(-1),
        coefficient=weights.reshape(-1),
        source=source,
        weight=where.reshape(m * k, -1),
        parameter="weight",
        padding=np.broadcast_to(~inside, (m, k)).reshape(-1),
    )
    return explanation(layer, unit, "z = Σ w·x + b", WX, terms, *_bias(layer, unit[0]), _named("z", layer, unit))


@family("linear")
def _linear(layer: Layer, unit: Index) -> Explanation:
    x = layer.inputs[0][(0, *unit[:-1])]
    values = doubles(x)
    module: Any = layer.module
    weights = doubles(module.weight[unit[-1]])
    rows = np.arange(len(values))
    leading = [np.full(len(values), at) for at in unit[:-1]]
    terms = Terms(
        value=values,
        product=weights * values,
        coefficient=weights,
        source=places(*leading, rows, rows=len(rows)),
        weight=places(unit[-1], rows, rows=len(rows)),
        parameter="weight",
    )
    return explanation(layer, unit, "z = Σ w·x + b", WX, terms, *_bias(layer, unit[-1]), _named("z", layer, unit))


@family("max_pool", "min_pool", "median_pool", "mean_pool", "sum_pool", "l2_pool", "adaptive_mean_pool", "subsample")
def _pool(layer: Layer, unit: Index) -> Explanation:
    """Every position of the window; the coefficient says how it enters the result."""
    x = layer.inputs[0]
    if x.ndim == layer.y.ndim and x.ndim < 3:
        return linearised(layer, unit)
    size = tuple(x.shape[2:])
    if layer.family == "adaptive_mean_pool":
        first, last = adaptive_range(unit[1:], size, tuple(layer.y.shape[2:]))
        positions = np.array(list(np.ndindex(*(b - a for a, b in zip(first, last, strict=True)))), np.int64)
        positions = positions + np.array(first)
        inside = np.ones(len(positions), bool)
    else:
        window = window_of(layer)
        assert window is not None
        positions, inside = window.read(unit[1:], size)
        if layer.family in ("mean_pool", "sum_pool", "l2_pool"):  # a ceil_mode window's overhang is no padding either
            far = np.array(size) + np.array(window.padding)
            kept = (positions < far).all(axis=1)
            positions, inside = positions[kept], inside[kept]
    clipped = np.clip(positions, 0, np.array(size) - 1)
    values = doubles(x[0, unit[0]][tuple(torch.from_numpy(clipped).T)]) * inside
    coefficient, formula, steps = _pooled(layer, unit, values, inside)
    squares = layer.family == "l2_pool"
    terms = Terms(
        value=values,
        product=values * values if squares else coefficient * values,
        coefficient=None if squares else coefficient,
        source=places(unit[0], *positions.T, rows=len(positions)),
        padding=~inside,
    )
    headings = ("", "x", "x²") if squares else ("c", "x", "c·x")
    return explanation(layer, unit, formula, headings, terms, *steps)


def _pooled(layer: Layer, unit: Index, values: Floats, inside: Any) -> tuple[Floats, str, tuple[Line, ...]]:
    y = number(layer.y, unit)
    end = Line("=", "y", y)
    rule: Any = layer.rule
    match layer.family:
        case "max_pool" | "min_pool" | "median_pool":
            candidates = np.where(inside, values, np.nan)
            match layer.family:
                case "max_pool":
                    winner = int(np.nanargmax(candidates))
                case "min_pool":
                    winner = int(np.nanargmin(candidates))
                case _:
                    order = np.argsort(candidates, kind="stable")
                    winner = int(order[(int(inside.sum()) - 1) // 2])
            name = layer.family.removesuffix("_pool")
            return np.eye(len(values))[winner], f"y = {name}(x)", (end,)
        case "mean_pool":
            counted = len(values) if rule.count_include_pad else int(inside.sum())
            share = 1 / (rule.divisor or counted)
            return np.full(len(values), share), "y = Σ x / n", (end,)
        case "adaptive_mean_pool":
            return np.full(len(values), 1 / len(values)), "y = Σ x / n", (end,)
        case "sum_pool":
            return np.ones(len(values)), "y = Σ x", (end,)
        case "l2_pool":
            return np.ones(len(values)), "y = √Σ x²", (Line("√", "√", 0.0), end)
        case _:
            module: Any = layer.module
            beta, bias = scalar(module.weight[unit[0]]), scalar(module.bias[unit[0]])
            u = number(layer.u, unit)
            function = Line("f", module.activation, y)
            steps = (Line("×", "β", beta), Line("+", "b", bias), Line("=", "u", u), function)
            return np.ones(len(values)), "y = f(β·Σ x + b)", steps


@family("batch_norm")
def _batch_norm(layer: Layer, unit: Index) -> Explanation:
    module: Any = layer.module
    channel = unit[0]
    mean, variance = float(module.running_mean[channel]), float(module.running_var[channel])
    steps = [Line("−", "μ", mean), Line("÷", "√(σ²+ε)", float(np.sqrt(variance + module.eps)))]
    if module.affine:
        steps += [Line("×", "γ", scalar(module.weight[channel])), Line("+", "β", scalar(module.bias[channel]))]
    formula = "y = γ·(x − μ)/√(σ²+ε) + β"
    return explanation(layer, unit, formula, ("", "x", "x"), _itself(layer, unit), *steps, _named("y", layer, unit))


@family("lrn")
def _lrn(layer: Layer, unit: Index) -> Explanation:
    """y = x_j / (k + α/n·Σ x_i²)^β over n neighbouring maps."""
    module: Any = layer.module
    x = layer.inputs[0]
    n, channel = module.size, unit[0]
    maps = np.arange(channel - n // 2, channel - n // 2 + n)
    inside = (maps >= 0) & (maps < x.shape[1])
    picked: Any = (0, slice(None), *unit[1:])
    column = doubles(x[picked])
    values = np.where(inside, column[np.clip(maps, 0, x.shape[1] - 1)], 0.0)
    terms = Terms(
        value=values,
        product=values**2,
        source=places(maps, *unit[1:], rows=n),
        padding=~inside,
    )
    steps = (
        Line("×", "α/n", module.alpha / n),
        Line("+", "k", float(module.k)),
        Line("^", "−β", -float(module.beta)),
        Line("×", "x", number(x, unit)),
        _named("y", layer, unit),
    )
    return explanation(layer, unit, "y = x·(k + α/n·Σ x²)^(−β)", ("", "x", "x²"), terms, *steps)


@family("softmax", "log_softmax")
def _softmax(layer: Layer, unit: Index) -> Explanation:
    rule: Any = layer.rule
    x = layer.inputs[0]
    axis = rule.dim % x.ndim - 1
    if axis < 0:
        return linearised(layer, unit)
    at: list[Any] = list(unit)
    at[axis] = slice(None)
    picked: Any = (0, *at)
    values = doubles(x[picked])
    top = float(values.max())
    lowered = float(values[unit[axis]]) - top
    terms = Terms(
        value=values,
        product=np.exp(values - top),
        source=places(
            *(np.arange(len(values)) if place == axis else unit[place] for place in range(len(unit))), rows=len(values)
        ),
    )
    headings = ("", "z", "exp(z − max)")
    if layer.family == "log_softmax":
        whole = float(np.log(terms.product.sum()))
        logarithm = (Line("f", "ln", whole), Line("×", "−1", -1.0), Line("+", "(z − max)", lowered))
        formula = "y = (z − max) − ln Σ exp(z − max)"
        return explanation(layer, unit, formula, headings, terms, *logarithm, _named("y", layer, unit))
    steps = (Line("^", "−1", -1.0), Line("×", "exp(z − max)", float(np.exp(lowered))), _named("p", layer, unit))
    return explanation(layer, unit, "p = exp(z − max) / Σ exp(z − max)", headings, terms, *steps)


@family("total", "total_across")
def _total(layer: Layer, unit: Index) -> Explanation:
    """Σ x, or its mean, over whole dimensions."""
    positions = summed_over(layer, unit)
    values = doubles(layer.inputs[0][0])[tuple(positions.T)]
    share = 1 / len(values) if layer.rule.mean else 1.0  # type: ignore[attr-defined]
    terms = Terms(values, share * values, np.full(len(values), share), source=positions)
    formula = "y = Σ x / n" if layer.rule.mean else "y = Σ x"  # type: ignore[attr-defined]
    return explanation(layer, unit, formula, ("c", "x", "c·x"), terms, _named("y", layer, unit))


def summed_over(layer: Layer, unit: Index) -> npt.NDArray[np.int64]:
    """The places of the input, (n, dimensions), that a sum over whole dimensions puts into ``unit``."""
    rule: Any = layer.rule
    shape = tuple(layer.inputs[0].shape)
    over = {dim % len(shape) for dim in rule.over}
    kept = iter(unit)
    ranges: list[Any] = []
    for dim in range(1, len(shape)):
        if dim in over:
            ranges.append(range(shape[dim]))
            if rule.keepdim:
                next(kept)
        else:
            ranges.append((next(kept),))
    return np.array(list(itertools.product(*ranges)), np.int64).reshape(-1, len(shape) - 1)


@family("rbf")
def _rbf(layer: Layer, unit: Index) -> Explanation:
    assert isinstance(layer.module, own.RBF)
    values, codes = doubles(layer.inputs[0][0]), doubles(layer.module.weight[unit[0]])
    rows = np.arange(len(values))
    terms = Terms(
        value=values,
        product=(values - codes) ** 2,
        coefficient=codes,
        source=rows[:, None],
        weight=places(unit[0], rows, rows=len(rows)),
    )
    return explanation(layer, unit, "y = Σ (x − w)²", ("w", "x", "(x − w)²"), terms, _named("y", layer, unit))


@family("activation")
def _activation(layer: Layer, unit: Index) -> Explanation:
    y = number(layer.y, unit)
    terms = _itself(layer, unit)
    steps = (Line("f", layer.kind, y), Line("=", "y", y))
    return explanation(layer, unit, formula_of(layer), ("", "u", "u"), terms, *steps)


def formula_of(layer: Layer) -> str:
    """f as the table has it, with the options of this layer where there are some."""
    row = row_of(layer.module, layer.function)
    if row is None:
        return "y = f(u)"
    rule: Any = layer.rule
    options = [f"{name} = {value:g}" for name in row.options if isinstance(value := getattr(rule, name), int | float)]
    return ",  ".join([f"y = {row.formulas[0]}", *options])


@family("identity")
def _identity(layer: Layer, unit: Index) -> Explanation:
    return explanation(layer, unit, "y = x", ("", "x", "x"), _itself(layer, unit), _named("y", layer, unit))


@family("reshape")
def _reshape(layer: Layer, unit: Index) -> Explanation:
    """The same numbers in another shape: row-major order is kept."""
    shape = tuple(layer.inputs[0].shape[1:])
    flat = int(np.ravel_multi_index(unit, layer.shape)) if layer.shape else 0
    source = np.array([np.unravel_index(flat, shape)], np.int64).reshape(1, len(shape))
    value = np.array([number(layer.inputs[0], tuple(int(at) for at in source[0]))])
    terms = Terms(value=value, product=value.copy(), source=source)
    return explanation(layer, unit, "y = x", ("", "x", "x"), terms, _named("y", layer, unit))


@family("add")
def _add(layer: Layer, unit: Index) -> Explanation:
    parts = [_broadcast_term(layer, place, unit) for place in range(len(layer.inputs))]
    if layer.keywords.get("alpha", 1) != 1:
        return linearised(layer, unit)
    constants = [float(item) for item in layer.arguments if isinstance(item, int | float)]
    steps = [Line("+", "c", value) for value in constants]
    terms = Terms.join(parts)
    return explanation(layer, unit, "y = Σ x", ("", "x", "x"), terms, *steps, _named("y", layer, unit))


@family("concat")
def _concat(layer: Layer, unit: Index) -> Explanation:
    axis = concat_axis(layer)
    if axis < 0:
        return linearised(layer, unit)
    at = unit[axis]
    for place, value in enumerate(layer.inputs):
        if at < value.shape[axis + 1]:
            source = (*unit[:axis], at, *unit[axis + 1 :])
            one = np.array([number(value, source)])
            terms = Terms(one, one.copy(), source=np.array([source]), origin=np.array([place], np.int64))
            return explanation(layer, unit, "y = x", ("", "x", "x"), terms, _named("y", layer, unit))
        at -= value.shape[axis + 1]
    raise AssertionError("the unit lies in one of the parts")


def concat_axis(layer: Layer) -> int:
    """The dimension along which maps are joined, without the batch; −1 for the batch itself."""
    dim = layer.keywords.get("dim", layer.arguments[1] if len(layer.arguments) > 1 else 0)
    return int(dim) % layer.y.ndim - 1


def linearised(layer: Layer, unit: Index) -> Explanation:
    """Σ ∂y/∂x·x over the inputs with a derivative; exact for a layer that is linear, else the rest is said."""
    parts = []
    rows = local.row(layer, unit) if layer.inputs else []  # none where it reads a tuple, such as a chunk's
    for gradient, value in zip(rows, layer.inputs, strict=True):
        if not value.ndim:  # a number without places, such as a mean over everything: part of c
            continue
        index = np.argwhere(gradient != 0)
        coefficient = gradient[gradient != 0]
        values = doubles(value[0])[gradient != 0]
        parts.append(Terms(values, coefficient * values, coefficient, source=index))
    terms = Terms.join(parts)
    y = number(layer.y, unit)
    steps = (Line("+", "c", y - float(terms.product.sum())), _named("y", layer, unit))
    return explanation(layer, unit, "y = Σ ∂y/∂x·x + c", ("∂y/∂x", "x", "∂y/∂x·x"), terms, *steps, note="linearised")


def _itself(layer: Layer, unit: Index) -> Terms:
    value = np.array([number(layer.inputs[0], unit)])
    return Terms(value=value, product=value.copy(), source=np.array([unit], np.int64).reshape(1, len(unit)))


def _broadcast_term(layer: Layer, place: int, unit: Index) -> Terms:
    value = layer.inputs[place]
    shape = tuple(value.shape[1:])
    index = tuple(0 if side == 1 else at for side, at in zip(shape, unit[-len(shape) :] if shape else (), strict=True))
    one = np.array([number(value, index)])
    return Terms(one, one.copy(), source=np.array([index], np.int64).reshape(1, len(index)))


def _bias(layer: Layer, channel: int) -> tuple[Line, ...]:
    bias = getattr(layer.module, "bias", None)
    return () if bias is None else (Line("+", "b", scalar(bias[channel])),)


def _named(symbol: str, layer: Layer, unit: Index) -> Line:
    return Line("=", symbol, number(layer.y, unit))
