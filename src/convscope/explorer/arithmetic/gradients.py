"""The gradient of one weight as the sum over every place where it was used: Σ x·δ."""

from __future__ import annotations

import numpy as np
import torch

from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.kernels import KernelsByMap
from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms
from convscope.explorer.arithmetic.windows import window_of

XD = ("x", "δ", "x·δ")


def explain(layer: Layer, parameter: str, index: Index, delta: torch.Tensor, partly: bool = False) -> Explanation:
    """The arithmetic of ∂J/∂w for one entry of ``parameter`` ("weight", "bias" …); ``delta`` is the layer's ∂J/∂u.

    An activation's own parameter acts behind u: its sum is over ∂J/∂y, of which, with ``partly``, some comes by ways
    that are not shown and is a constant.
    """
    values, value = doubles(delta[0]), float(layer.gradients[parameter][index])
    steps: tuple[Line, ...] = ()
    if layer.family == "conv" and parameter == "weight":
        terms, formula, headings = _kernel(layer, index, values), "∂J/∂w = Σ x·δ", XD
    elif layer.family == "conv" and parameter == "bias":
        terms, formula, headings = _map_sum(values, index), "∂J/∂b = Σ δ", ("", "δ", "δ")
    elif layer.family == "linear" and layer.inputs[0].ndim == 2:
        terms, formula, headings = _dense(layer, parameter, index, values)
    elif layer.family == "subsample" and parameter == "bias":
        terms, formula, headings = _map_sum(values, index), "∂J/∂b = Σ δ", ("", "δ", "δ")
    elif layer.family == "batch_norm" and parameter == "bias":
        terms, formula, headings = _map_sum(values, index), "∂J/∂β = Σ δ", ("", "δ", "δ")
    elif layer.family == "activation":
        back = np.zeros(layer.shape) if layer.upstream is None else doubles(layer.upstream[0])
        terms, formula, headings = (
            _by_column(layer, parameter, index, back),
            "∂J/∂w = Σ ∂y/∂w·∂J/∂y",
            ("∂y/∂w", "∂J/∂y", "∂y/∂w·∂J/∂y"),
        )
        if partly:
            steps = (Line("+", "c", value - float(terms.product.sum())),)
    else:
        terms, formula, headings = (
            _by_column(layer, parameter, index, values),
            "∂J/∂w = Σ ∂u/∂w·δ",
            ("∂u/∂w", "δ", "∂u/∂w·δ"),
        )
    steps = (*steps, Line("=", "∂J/∂w", value))
    return Explanation(
        layer.name, "gradient", layer.family, index, formula, headings, terms, steps, value,
        layer.sources, parameter=parameter,
    )  # fmt: skip


def _kernel(layer: Layer, index: Index, delta: Floats) -> Terms:
    """One product a position of the output map: the window moves, the weight stays."""
    window, kernels = window_of(layer), KernelsByMap(layer)
    assert window is not None
    output, source, place = kernels.locate(index)
    at = np.array(list(np.ndindex(delta.shape[1:])), np.int64)  # (positions, d)
    positions = at * np.array(window.stride) - np.array(window.padding) + np.array(place) * np.array(window.dilation)
    size = np.array(layer.inputs[0].shape[2:])
    inside = ((positions >= 0) & (positions < size)).all(axis=1)
    x = doubles(layer.inputs[0][0, source])
    coefficient = x[tuple(np.clip(positions, 0, size - 1).T)] * inside
    values = delta[output].reshape(-1)
    return Terms(
        value=values,
        product=coefficient * values,
        coefficient=coefficient,
        source=np.concatenate([np.full((len(at), 1), output), at], axis=1),
        at=np.concatenate([np.full((len(at), 1), source), positions], axis=1),
        padding=~inside,
    )


def _dense(layer: Layer, parameter: str, index: Index, delta: Floats) -> tuple[Terms, str, tuple[str, str, str]]:
    value = np.array([delta[index[0]]])
    source = np.array([[index[0]]], np.int64)
    if parameter == "bias":
        return Terms(value, value.copy(), source=source), "∂J/∂b = δ", ("", "δ", "δ")
    x = doubles(layer.inputs[0][0, index[1] : index[1] + 1])
    terms = Terms(value, x * value, x, source=source, at=np.array([[index[1]]], np.int64))
    return terms, "∂J/∂w = x·δ", XD


def _map_sum(delta: Floats, index: Index) -> Terms:
    values = delta[index[0]].reshape(-1)
    at = np.array(list(np.ndindex(delta.shape[1:])), np.int64).reshape(len(values), -1)
    return Terms(values, values.copy(), source=np.concatenate([np.full((len(at), 1), index[0]), at], axis=1))


def _by_column(layer: Layer, parameter: str, index: Index, delta: Floats) -> Terms:
    """∂u/∂w from the layer's own derivative; a layer with a built-in activation has its δ at u taken to y's scale."""
    coefficient = local.parameter_column(layer, parameter, index)
    if layer.family == "subsample":  # the column is ∂y/∂w = f′(u)·∂u/∂w
        from convscope.explorer.arithmetic.backward import derivative

        slope = np.array([derivative(layer, tuple(at)) for at in np.argwhere(coefficient != 0).tolist()])
        coefficient[coefficient != 0] /= slope
    hit = coefficient != 0
    at = np.argwhere(hit)
    picked, values = coefficient[hit], delta[hit]
    return Terms(values, picked * values, picked, source=at)
