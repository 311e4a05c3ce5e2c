"""The rule of unpooling: maps put back to the places that max pooling recorded."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved, rule_for_module
from convscope.shapes import full


@dataclasses.dataclass(frozen=True)
class MaxUnpool(Rule):
    """y at the recorded places = x, 0 elsewhere;   δ_x = δ_y at the recorded places

    Zeiler, Fergus 2014 (the deconvnet's switches). x and ``indices`` are (n, c, *size); an index counts through the
    flattened output map. Along each dimension the output has (n − 1)·stride − 2·padding + kernel_size positions unless
    ``output_size`` is given. Where overlapping windows recorded one place twice their values are equal, and one stays.
    """

    kind = "unpool"
    needs = ("indices", "size", "inputs")

    dims: int
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    output_size: tuple[int, ...] | None = None

    def forward(self, x: Tensor, indices: Tensor, output_size: Any = None) -> tuple[Tensor, Saved]:
        """``output_size`` of the call goes before the rule's own."""
        chosen = self.output_size if output_size is None else output_size
        usual = self._positions(x.shape[2:])
        size = usual if chosen is None else tuple(chosen)[-self.dims :]
        strides = full(self.kernel_size if self.stride is None else self.stride, self.dims, "stride")
        if any(abs(n - m) >= s for n, m, s in zip(size, usual, strides, strict=True)):
            raise ArgumentError("output_size", size, f"less than a stride {strides} away from {usual}")
        flat = x.new_zeros(*x.shape[:2], math.prod(size))
        flat.scatter_(2, indices.flatten(2), x.flatten(2))
        return flat.reshape(*x.shape[:2], *size), {
            "indices": indices, "size": x.shape, "inputs": 2 if output_size is None else 3,
        }  # fmt: skip

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        indices = saved["indices"].flatten(2)
        delta_x = delta.flatten(2).gather(2, indices).reshape(saved["size"])
        return (delta_x, *[None] * (saved["inputs"] - 1)), {}

    def _positions(self, size: tuple[int, ...]) -> tuple[int, ...]:
        kernel = full(self.kernel_size, self.dims, "kernel_size")
        stride = kernel if self.stride is None else full(self.stride, self.dims, "stride")
        padding = full(self.padding, self.dims, "padding", minimum=0)
        return tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(size, kernel, stride, padding, strict=True))


@rule_for_module(nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)
def _(module: Any, x: Tensor, indices: Tensor, output_size: Any = None) -> Rule | None:
    dims = {nn.MaxUnpool1d: 1, nn.MaxUnpool2d: 2, nn.MaxUnpool3d: 3}[type(module)]
    if x.ndim != dims + 2:
        return None
    return MaxUnpool(dims, module.kernel_size, module.stride, module.padding)
