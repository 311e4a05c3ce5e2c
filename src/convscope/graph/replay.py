"""Running the graph again up to one layer, differentiably: for derivatives that a trace of one loss does not hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from convscope.errors import UnknownNameError
from convscope.graph.calls import Names


def value_of(captured: fx.GraphModule, x: Tensor, name: str) -> Tensor:
    """The output of the call ``name`` for input x, with its way back to x. Raises UnknownNameError."""
    runner = fx.Interpreter(captured)
    runner.args_iter = iter((x.clone(),))
    name_of, met = Names(), []
    for node in captured.graph.nodes:
        value: Any = runner.run_node(node)
        if node.op in ("call_module", "call_function", "call_method"):
            met.append(name_of(node))
            if met[-1] == name and isinstance(value, Tensor):
                return value
        runner.env[node] = value.view_as(value) if isinstance(value, Tensor) else value  # in-place calls meet no leaf
    raise UnknownNameError("layer", name, met)


def unit_gradient(captured: fx.GraphModule, x: Tensor, name: str, unit: tuple[int, ...]) -> Tensor:
    """∂y_unit/∂x in x's shape: the effective receptive field."""
    with torch.enable_grad():
        given = x.detach().clone().requires_grad_()
        y = value_of(captured, given, name)
        (gradient,) = torch.autograd.grad(y[(0, *unit)], given, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient.detach()
