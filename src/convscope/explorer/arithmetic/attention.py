"""A unit of an attention layer written out, one of its weights, and the query and key that the weight is made of."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from convscope import layers as own
from convscope.errors import ArgumentError
from convscope.explorer.arithmetic import local
from convscope.explorer.arithmetic.forward import explanation, family
from convscope.explorer.arithmetic.layer import Index, Layer, doubles, number, scalar
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, places


@dataclasses.dataclass(frozen=True)
class Look:
    """What a layer of attention does with one example, float64: its input ``queries`` (m, size) and ``keys`` (j, size),
    ``q``, ``k`` and ``v`` (heads, places, e), which keys a query sees, (m, j), and how much, ``weights`` (heads, m, j).
    ``origin``: of which of the layer's inputs the keys are."""

    module: own.MultiHeadAttention
    queries: Tensor
    keys: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    seen: Tensor
    weights: Tensor
    origin: int


@torch.no_grad()
def look_of(layer: Layer) -> Look:
    module = local.doubled(layer.module)
    assert isinstance(module, own.MultiHeadAttention)
    found: list[Look] = []

    def look(query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> None:
        whole = query if keys is None else keys
        k, v = module.remember(whole)
        q = module._queries(query)
        kept = torch.ones(query.shape[1], whole.shape[1], dtype=torch.bool)
        kept = kept & seen[0] if seen is not None else kept
        kept = kept.tril() if module.causal else kept
        weights = module.weights(query, keys, seen)
        found.append(Look(module, query[0], whole[0], q[0], k[0], v[0], kept, weights[0], 0 if keys is None else 1))

    layer.call(*[x.double() if x.is_floating_point() else x for x in layer.inputs], module=look)  # type: ignore[arg-type]
    return found[0]


@family("attention")
def _attention(layer: Layer, unit: Index) -> Explanation:
    """Of each key what it says of this unit through each head, times how much the query looks at it."""
    look = look_of(layer)
    weights, module = look.weights[:, unit[0]], look.module  # (heads, j)
    with torch.no_grad():
        said = torch.einsum("hje,he->hj", look.v, module.out_weight[unit[1]].reshape(len(weights), -1))
    heads, keys = weights.shape
    rows = np.tile(np.arange(keys), heads)
    terms = Terms(
        value=doubles(said).reshape(-1),
        product=doubles(weights * said).reshape(-1),
        coefficient=doubles(weights).reshape(-1),
        source=places(rows, -1, rows=len(rows)),
        origin=np.full(len(rows), look.origin),
        at=np.repeat(np.arange(heads), keys)[:, None],
        padding=~np.tile(look.seen[unit[0]].numpy(), heads),
    )
    steps = (Line("+", "b", scalar(module.out_bias[unit[1]])), Line("=", "y", number(layer.y, unit)))
    formula = "y = Σ_heads Σ_keys a·(W_o·v) + b,  a = softmax(q·k/√e)"
    return explanation(layer, unit, formula, ("a", "W_o·v", "a·(W_o·v)"), terms, *steps)


def explain_weight(layer: Layer, head: int, query: int, key: int) -> Explanation:
    """How much a query looks at a key: a = exp(s) / Σ exp(s) over the keys that it sees."""
    look = checked(layer, head, query, key)
    scores = doubles(look.q[head, query] @ look.k[head].T / math.sqrt(look.q.shape[2]))
    seen = look.seen[query].numpy()
    top = float(scores[seen].max()) if seen.any() else 0.0
    powers = np.where(seen, np.exp(np.where(seen, scores - top, 0.0)), 0.0)
    rows = np.arange(len(scores))
    terms = Terms(
        scores, powers, source=places(rows, -1, rows=len(rows)), origin=np.full(len(rows), look.origin), padding=~seen
    )
    weight = float(look.weights[head, query, key])
    steps: tuple[Line, ...]
    if not seen[key]:
        formula, steps = "a = 0: the key is masked", (Line("×", "0", 0.0), Line("=", "a", weight))
    else:
        formula = "a = exp(s − max) / Σ exp(s − max)"
        steps = (Line("^", "−1", -1.0), Line("×", "exp(s − max)", float(powers[key])), Line("=", "a", weight))
    return _of(layer, (head, query, key), formula, ("", "s", "exp(s − max)"), terms, steps, weight)


def explain_score(layer: Layer, head: int, query: int, key: int) -> Explanation:
    """How well a query and a key fit: s = Σ q·k / √e."""
    look = checked(layer, head, query, key)
    q, k = doubles(look.q[head, query]), doubles(look.k[head, key])
    channels = np.arange(len(q))
    score = float((look.q[head, query] @ look.k[head, key]) / math.sqrt(len(q)))
    terms = Terms(k, q * k, q, source=channels[:, None], at=channels[:, None])
    steps = (Line("÷", "√e", math.sqrt(len(q))), Line("=", "s", score))
    return _of(layer, (head, query, key), "s = Σ q·k / √e", ("q", "k", "q·k"), terms, steps, score)


def explain_projection(layer: Layer, which: str, head: int, place: int, channel: int) -> Explanation:
    """One number of a query or a key: Σ w·x + b over what stands at its place."""
    look = checked(layer, head, place if which == "query" else 0, place if which == "key" else 0)
    e = look.q.shape[2]
    if not 0 <= channel < e:
        raise ArgumentError("channel", channel, f"0…{e - 1}")
    row = head * e + channel + (0 if which == "query" else look.module.size)
    x = doubles((look.queries if which == "query" else look.keys)[place])
    w, rows = doubles(look.module.in_proj_weight[row]), np.arange(len(x))
    bias = scalar(look.module.in_proj_bias[row])
    value = float((look.q if which == "query" else look.k)[head, place, channel])
    terms = Terms(
        x, w * x, w,
        source=places(place, rows, rows=len(rows)),
        origin=np.full(len(rows), 0 if which == "query" else look.origin),
        weight=places(row, rows, rows=len(rows)),
        parameter="in_proj_weight",
    )  # fmt: skip
    symbol = which[0]
    steps = (Line("+", "b", bias), Line("=", symbol, value))
    index = (head, place, channel)
    return _of(layer, index, f"{symbol} = Σ w·x + b", ("w", "x", "w·x"), terms, steps, value)


def checked(layer: Layer, head: int, query: int, key: int) -> Look:
    """ArgumentError for what is no layer of attention, and for a head or a place that it does not have."""
    if layer.family != "attention":
        raise ArgumentError("layer", layer.name, "a layer of attention of several heads")
    look = look_of(layer)
    heads, queries, keys = look.weights.shape
    for name, given, count in (("head", head, heads), ("query", query, queries), ("key", key, keys)):
        if not 0 <= given < count:
            raise ArgumentError(name, given, f"0…{count - 1}")
    return look


def _of(
    layer: Layer,
    index: Index,
    formula: str,
    headings: tuple[str, str, str],
    terms: Terms,
    steps: tuple[Line, ...],
    value: float,
) -> Explanation:
    return Explanation(layer.name, "forward", "attention", index, formula, headings, terms, steps, value, layer.sources)
