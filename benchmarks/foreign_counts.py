"""What fvcore counts of a model, and what it is told of what it has no row for."""

from __future__ import annotations

import collections
import copy
import importlib
import math
from typing import Any

from torch import Tensor, nn

from convscope import count
from convscope.errors import ConvscopeError
from convscope.graph import structure

_PRODUCTS = (
    "conv", "_convolution_mode", "addmm", "linear", "matmul", "bmm", "einsum", "baddbmm", "mm", "addbmm",
    "scaled_dot_product_attention", "lstm", "gru",
)  # fmt: skip


def _sizes(value: Any) -> list[int]:
    return list(value.type().sizes())


def _attention(inputs: Any, _: Any) -> collections.Counter[str]:
    """q kᵀ and its product with v."""
    q, k, v = map(_sizes, inputs[:3])
    return collections.Counter({"scaled_dot_product_attention": math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])})


def _convolution(inputs: Any, outputs: Any) -> collections.Counter[str]:
    """``padding="same"``: one product an output and an element of its kernel."""
    return collections.Counter({"_convolution_mode": math.prod(_sizes(outputs[0])) * math.prod(_sizes(inputs[1])[1:])})


def _einsum(inputs: Any, _: Any) -> collections.Counter[str]:
    """One product for each value of all letters together; fvcore's own row reads them, rounded, from numpy's text."""
    letters = inputs[0].toIValue().replace(" ", "").split("->")[0].split(",")
    shapes = [_sizes(each) for each in inputs[1].node().inputs()]
    sizes = {
        letter: size
        for term, shape in zip(letters, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return collections.Counter({"einsum": math.prod(sizes.values())})


def _recurrent(name: str) -> Any:
    def handle(inputs: Any, _: Any) -> collections.Counter[str]:
        """Every matrix of weights once a position."""
        lists = [each for each in inputs if each.node().kind() == "prim::ListConstruct"]
        weights = [each for part in lists for each in part.node().inputs() if len(each.type().sizes() or []) == 2]
        positions = math.prod(_sizes(inputs[0])[:2])
        return collections.Counter({name: positions * sum(math.prod(_sizes(each)) for each in weights)})

    return handle


class Flat(nn.Module):
    """The model, its answer as a plain tuple of tensors, which is all that can be traced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(structure.tensors(self.model(*inputs)))


def try_count(model: nn.Module, x: tuple[Tensor, ...]) -> dict[str, Any]:
    FlopCountAnalysis: Any = importlib.import_module("fvcore.nn").FlopCountAnalysis

    shapes = tuple(tuple(each.shape[1:]) for each in x)
    try:
        ours = count(copy.deepcopy(model), shapes if len(shapes) > 1 else shapes[0]).multiply_adds
    except ConvscopeError as problem:
        return {"count": f"refused: {problem}"[:200]}
    analysis = FlopCountAnalysis(Flat(copy.deepcopy(model)), tuple(each[:1] for each in x))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    analysis.set_op_handle("aten::_convolution_mode", _convolution)
    analysis.set_op_handle("aten::einsum", _einsum)
    for name in ("lstm", "gru"):
        analysis.set_op_handle(f"aten::{name}", _recurrent(name))
    try:
        theirs = int(sum(n for name, n in analysis.by_operator().items() if name in _PRODUCTS))
    except Exception as problem:
        return {"count": f"fvcore fails ({type(problem).__name__})", "count_ours": ours, "why": str(problem)[:200]}
    telling = ("attention", "conv", "lstm", "gru", "rnn", "mm", "dot", "linear", "einsum")
    missed = {name for name in analysis.unsupported_ops() if any(each in name for each in telling)}
    verdict = "equal" if ours == theirs else f"fvcore leaves out {', '.join(sorted(missed))}" if missed else "other"
    return {"count": verdict, "count_ours": ours, "count_fvcore": theirs}
