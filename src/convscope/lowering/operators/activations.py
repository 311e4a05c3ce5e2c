"""Element-wise functions by the table's rows, softmax and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import Builder, lowers_function, lowers_method, lowers_module
from convscope.lowering.operators.combine import multiply, pair
from convscope.lowering.plan import Attribute
from convscope.lowering.values import Value
from convscope.rules.elementwise import Elementwise, row_of, rule_of


def pointwise(b: Builder, rule: Elementwise, x: Value) -> Value:
    """``x`` through the stages that the engine has for an element-wise function; refused where it has none."""
    stages = rule.engine()
    if not isinstance(stages, tuple):
        b.refuse(stages or f"the engine has no {type(rule).__name__}")
    for each in stages:
        if each.kind == "affine":
            x = b.affine(x, each.attributes["slope"], each.attributes["offset"])
        else:
            x = b.pointwise(each.kind, x, **each.attributes)
    return x


def elementwise(module: nn.Module | None, target: Any) -> Callable[..., Value] | None:
    """The lowering of a module, function or method by its row in the table of element-wise functions.

    None where it has no row, or one whose function the engine has no kind for.
    """
    row = row_of(module, target)
    if row is None or row.rule.engine is Elementwise.engine:
        return None

    def lower(b: Builder, *arguments: Any, **keywords: Any) -> Value:
        rule = rule_of(module, target, arguments, keywords)
        if rule is None:
            b.refuse(
                f"calls {target if isinstance(target, str) else target.__name__} in a way the engine does not know"
            )
        given = arguments[1] if module is not None else keywords.get("input", arguments[0] if arguments else None)
        return pointwise(b, rule, b.tensor(given))

    return lower


@lowers_module(nn.Softmax, nn.LogSoftmax)
def _(b: Builder, m: nn.Softmax | nn.LogSoftmax, x: Any) -> Value:
    return _softmax(b, x, m.dim, isinstance(m, nn.LogSoftmax))


@lowers_module(nn.Softmax2d)
def _(b: Builder, m: nn.Softmax2d, x: Any) -> Value:
    return _softmax(b, b.maps(x), 1, False)


@lowers_function(F.softmax, torch.softmax)
@lowers_method("softmax")
def softmax(b: Builder, input: Any, dim: Any = None, *_stacklevel: int, dtype: Any = None, **_unused: Any) -> Value:
    return _softmax(b, input, dim, False, dtype)


@lowers_function(F.log_softmax, torch.log_softmax)
@lowers_method("log_softmax")
def _(b: Builder, input: Any, dim: Any = None, *_stacklevel: int, dtype: Any = None, **_unused: Any) -> Value:
    return _softmax(b, input, dim, True, dtype)


def _softmax(b: Builder, input: Any, dim: Any, logarithm: bool, dtype: Any = None) -> Value:
    x = b.tensor(input)
    if dtype not in (None, torch.float32):
        b.refuse(f"dtype={dtype}, the engine computes in torch.float32")
    if dim is None:  # torch's habit of old
        dim = 0 if len(x.sizes) in (0, 2) else 1
    moved, back = b.with_first(x, b.axis(dim, x, "softmax over dim"))
    attributes: dict[str, Attribute] = {"logarithm": 1} if logarithm else {}
    return b.record("softmax", moved, moved.shape, attributes, sizes=moved.sizes).permuted(back)


@lowers_module(nn.GLU)
def _(b: Builder, m: nn.GLU, x: Any) -> Value:
    return glu(b, x, m.dim)


@lowers_function(F.glu)
def glu(b: Builder, input: Any, dim: int = -1) -> Value:
    """a·σ(b) for the two halves of a side"""
    x = b.tensor(input)
    axis = b.axis(dim, x, "halves dim")
    half = x.sizes[axis] // 2
    if x.sizes[axis] % 2:
        b.refuse(f"halves a side of {b.shown(x)} that is odd")
    value, gate = x.sliced(axis, range(half)), x.sliced(axis, range(half, 2 * half))
    return multiply(b, value, b.pointwise("sigmoid", gate))


@lowers_module(nn.PReLU)
def _(b: Builder, m: nn.PReLU, x: Any) -> Value:
    return prelu(b, x, m.weight)


@lowers_function(F.prelu, torch.prelu)
def prelu(b: Builder, input: Any, weight: Any) -> Value:
    """max(x, 0) + w·(x − max(x, 0)), w one for all or one a channel; so the slope at 0 is w, as torch has it."""
    x = b.tensor(input)
    above = b.pointwise("relu", x)
    if not isinstance(weight, torch.Tensor) or not x.sizes or weight.numel() not in (1, x.sizes[0]):
        b.refuse(f"takes {b.shown(x)}, but has another number of slopes")
    slopes = b.held(weight, (weight.numel(), *(1,) * (len(x.sizes) - 1)))
    return pair(b, "add", above, pair(b, "multiply", pair(b, "subtract", x, above), slopes))


@lowers_module(nn.Dropout)
def _(b: Builder, m: nn.Dropout, x: Any) -> Value:
    return dropout(b, x, m.p, m.training)


@lowers_function(F.dropout, torch.dropout)
def dropout(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    return drop(b, b.tensor(input), p, training, 0)


@lowers_module(nn.Dropout2d, nn.Dropout1d)
def _(b: Builder, m: nn.Dropout2d, x: Any) -> Value:
    return dropout_maps(b, x, m.p, m.training)


@lowers_function(F.dropout2d, F.dropout1d)
def dropout_maps(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    x = b.tensor(input)
    if len(x.sizes) < 2:
        b.refuse(f"takes {b.shown(x)}, which has no maps to drop")
    moved, back = b.with_first(x, 0)
    return drop(b, moved, p, training, 1).permuted(back)


def drop(b: Builder, x: Value, p: float, training: bool, together: int) -> Value:
    """``together``: 0 where each unit has its own chance, 1 where each of the engine's maps has, 2: each image."""
    if not training or p == 0:
        return x
    if p == 1:
        return b.affine(x, 0.0, 0.0)
    b.training = True
    return b.pointwise("dropout", x, p=float(p), **({"together": together} if together else {}))
