"""Element-wise functions by the table's rows, softmax and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.lowering.builder import Builder, Value, lowers_function, lowers_method, lowers_module
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


@lowers_module(nn.Softmax)
def _(b: Builder, m: nn.Softmax, x: Any) -> Value:
    return softmax(b, x, m.dim)


@lowers_function(F.softmax, torch.softmax)
@lowers_method("softmax")
def softmax(b: Builder, input: Any, dim: Any = None, *, dtype: Any = None, **_unused: Any) -> Value:
    x = b.features(input)
    if dim not in (1, -1, None) or dtype not in (None, torch.float32):
        b.refuse(f"softmax over dim {dim}, the engine takes it over the classes, dim 1, only")
    return b.pointwise("softmax", x)


@lowers_module(nn.Dropout)
def _(b: Builder, m: nn.Dropout, x: Any) -> Value:
    return dropout(b, x, m.p, m.training)


@lowers_function(F.dropout, torch.dropout)
def dropout(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    x = b.tensor(input)
    if not training or p == 0:
        return x
    if p == 1:
        return b.affine(x, 0.0, 0.0)
    b.training = True
    return b.pointwise("dropout", x, p=float(p))


@lowers_module(nn.Dropout2d)
def _(b: Builder, m: nn.Dropout2d, x: Any) -> Value:
    return dropout_maps(b, x, m.p, m.training)


@lowers_function(F.dropout2d)
def dropout_maps(b: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    x = b.maps(input)
    if training and p > 0 and x.shape[1:] != (1, 1):
        b.refuse("drops whole maps, the engine drops single units only")
    return dropout(b, x, p, training)
