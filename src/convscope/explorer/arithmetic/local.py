"""Any layer's local derivative at the traced point, in float64: what is shown where no arithmetic is written out.

A row of the layer's Jacobian (which inputs one output depends on) is one backward pass of the layer alone; a column
(which outputs one input feeds) is the derivative of that backward pass with respect to the vector it is given.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles

_doubled: dict[int, tuple[nn.Module, nn.Module, int]] = {}


def row(layer: Layer, unit: Index) -> list[Floats]:
    """∂y_unit/∂x for each input, in the input's shape without the batch; zeros where there is no path."""
    with torch.enable_grad():
        inputs = [value.detach().double().requires_grad_() for value in layer.inputs]
        y = _call(layer, inputs)
        found = torch.autograd.grad(y[(0, *unit)], inputs, allow_unused=True)
    return [
        doubles(gradient[0]) if gradient is not None and value.ndim else np.zeros(tuple(value.shape[1:]))
        for gradient, value in zip(found, inputs, strict=True)
    ]


def column(layer: Layer, number: int, index: Index) -> Floats:
    """∂y/∂x_index for input ``number``: one coefficient for each unit of the layer, in its shape without the batch."""
    with torch.enable_grad():
        inputs = [value.detach().double().requires_grad_() for value in layer.inputs]
        return _column(_call(layer, inputs), inputs[number], (0, *index))


def parameter_column(layer: Layer, parameter: str, index: Index) -> Floats:
    """∂y/∂w_index: how each unit of the layer moves with one weight."""
    assert layer.module is not None
    with torch.enable_grad():
        module = doubled(layer.module)
        target = module.get_parameter(parameter)
        y = _call(layer, [value.detach().double() for value in layer.inputs])
        return _column(y, target, index)


def _column(y: Tensor, x: Tensor, index: Index) -> Floats:
    upstream = torch.zeros_like(y, requires_grad=True)
    (back,) = torch.autograd.grad(y, x, upstream, create_graph=True, allow_unused=True)
    if back is None or not back.requires_grad:
        return np.zeros(tuple(y.shape[1:]))
    (found,) = torch.autograd.grad(back[index], upstream, allow_unused=True)
    return doubles(found[0]) if found is not None else np.zeros(tuple(y.shape[1:]))


def _call(layer: Layer, inputs: list[Tensor]) -> Tensor:
    module = doubled(layer.module) if layer.module is not None else None
    given = [value.clone() if value.requires_grad else value for value in inputs]  # the layer may work in place
    with sdpa_kernel(SDPBackend.MATH):  # of torch's kernels of attention the one that has second derivatives
        y: Any = layer.call(*given, module=module)
    assert isinstance(y, Tensor)
    return y


def doubled(module: nn.Module | None) -> nn.Module:
    """A float64 copy, made anew when a weight has changed."""
    assert module is not None
    version = sum(parameter._version for parameter in module.parameters())
    kept = _doubled.get(id(module))
    if kept is None or kept[0] is not module or kept[2] != version:
        if len(_doubled) > 32:
            _doubled.clear()
        kept = (module, copy.deepcopy(module).double().eval().requires_grad_(), version)
        _doubled[id(module)] = kept
    return kept[1]
