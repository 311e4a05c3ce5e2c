"""One layer with everything that went through it: what the arithmetic of its units is written from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from convscope import layers as own
from convscope.errors import ArgumentError
from convscope.graph import structure
from convscope.graph.calls import TensorLike
from convscope.rules.activation import Linear
from convscope.rules.base import Rule
from convscope.rules.elementwise import Elementwise
from convscope.rules.pool import AdaptiveMeanPool, L2Pool, MaxPool, MeanPool, MedianPool, MinPool, SumPool
from convscope.rules.prelu import PReLU
from convscope.rules.regions import RoIAlign, RoIPool
from convscope.rules.reshape import Total
from convscope.rules.sampling import AffineGrid, GridSample
from convscope.rules.softmax import LogSoftmax, Softmax

Floats = npt.NDArray[np.float64]
Index = tuple[int, ...]

_MODULES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d, own.TableConv2d), "conv"),
    ((nn.Linear,), "linear"),
    ((own.Subsample2d,), "subsample"),
    ((own.RBF,), "rbf"),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "batch_norm"),
    ((nn.LocalResponseNorm,), "lrn"),
    ((nn.LayerNorm,), "layer_norm"),
    ((own.MultiHeadAttention,), "attention"),
    ((own.MaxOverTime,), "max_over_time"),
    ((own.RecurrentLayers,), "lstm"),
    ((nn.Flatten, nn.Unflatten), "reshape"),
    ((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity), "identity"),
)
_FUNCTIONS = {
    "add": "add", "iadd": "add", "cat": "concat", "concat": "concat",
    "flatten": "reshape", "view": "reshape", "reshape": "reshape", "squeeze": "reshape", "unsqueeze": "reshape",
    "contiguous": "identity", "clone": "identity", "dropout": "identity", "detach": "identity",
}  # fmt: skip
_RULES: Mapping[type[Rule], str] = {
    MaxPool: "max_pool", MinPool: "min_pool", MedianPool: "median_pool",
    MeanPool: "mean_pool", SumPool: "sum_pool", L2Pool: "l2_pool", AdaptiveMeanPool: "adaptive_mean_pool",
    Softmax: "softmax", LogSoftmax: "log_softmax", RoIPool: "roi_pool", RoIAlign: "roi_align",
    AffineGrid: "affine_grid", GridSample: "grid_sample",
}  # fmt: skip
"""Written from the rule alone, so that a function or method of torch is explained as the module is."""


def family_of(rule: Rule, module: nn.Module | None, kind: str, dims: int, parents: int = 1) -> str:
    """The arithmetic that a layer follows; "other" where only its local derivative can be shown.

    ``dims`` are the dimensions of its first input, the batch counted; ``parents`` how many calls it reads.
    """
    if isinstance(rule, Linear):
        return "identity"
    if isinstance(rule, Elementwise | PReLU):
        return "activation"
    if type(rule) in _RULES:
        return _RULES[type(rule)]
    if isinstance(rule, Total):
        over = range(dims) if rule.over is None else [dim % dims for dim in rule.over]
        return "other" if 0 in over else "total_across" if 1 in over else "total"
    if module is not None:
        for classes, family in _MODULES:
            if isinstance(module, classes):
                return family if _as_written(module) else "other"
        return "other"
    family = _FUNCTIONS.get(kind, "other")
    return "other" if family == "add" and parents < 1 else family


def _as_written(module: nn.Module) -> bool:
    """Whether a module of a known class has none of the options that its arithmetic leaves out."""
    if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        return module.running_mean is not None
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1
    padding, cell = getattr(module, "padding_mode", "zeros"), getattr(module, "cell", "lstm")
    return bool(padding == "zeros" and cell == "lstm")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One call of the graph for one input (batch of 1).

    ``rule`` is the rule that ran it, ``sources`` are the names of the calls whose outputs come in, "input" for the
    picture itself. ``y`` is the output,
    ``u`` the value before the layer's own non-linearity (u = y where it has none, u = x for an activation), ``delta`` =
    ∂J/∂u and ``upstream`` = ∂J/∂y, None while there is no loss. ``gradients`` are ∂J/∂parameter by the module's own
    parameter names. ``held`` are the tensors by source that a function of torch is given beside its inputs: parameters,
    constants, and what is computed from these alone. ``call(*inputs)`` runs the layer again. All tensors are detached.
    """

    name: str
    kind: str
    family: str
    rule: Rule
    module: nn.Module | None
    function: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    sources: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    u: Tensor
    y: Tensor
    delta: Tensor | None = None
    upstream: Tensor | None = None
    gradients: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    held: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def delta_at_input(self) -> bool:
        """Whether δ stands before the whole layer (u = x), as for an activation."""
        return self.u is not self.y and self.family != "subsample"

    @property
    def shape(self) -> tuple[int, ...]:
        """Output shape without the batch."""
        return tuple(self.y.shape[1:])

    def call(self, *inputs: Tensor, module: nn.Module | None = None) -> Any:
        """The layer on other inputs; ``module`` may be a copy of another dtype.

        Raises ArgumentError where it is given parts of tensors, or tensors made of no shown call alone, of a chunk for
        instance.
        """
        remaining = list(inputs)
        places = [leaf for leaf in structure.leaves((self.arguments, self.keywords)) if isinstance(leaf, TensorLike)]
        beside = len(places) > len(inputs)  # fewer where a rule has inputs of its own, such as lengths
        held = self.held if beside else {}
        if beside and sum(each.source not in held for each in places) != len(inputs):
            raise ArgumentError("layer", self.name, "a layer that reads shown maps, parameters and constants alone")

        def fill(value: Any) -> Any:
            if isinstance(value, TensorLike):
                if value.source not in held:
                    return remaining.pop(0)
                kept = held[value.source]
                return kept.to(inputs[0].dtype) if kept.is_floating_point() else kept
            if isinstance(value, dict):
                return {key: fill(item) for key, item in value.items()}
            if isinstance(value, tuple | list):
                return type(value)(fill(item) for item in value)
            return value

        arguments, keywords = fill(tuple(self.arguments)), fill(dict(self.keywords))
        runner = module if module is not None else self.module
        if runner is not None:
            return runner(*arguments, **keywords)
        if isinstance(self.function, str):
            return getattr(arguments[0], self.function)(*arguments[1:], **keywords)
        return self.function(*arguments, **keywords)


def doubles(tensor: Tensor) -> Floats:
    """A tensor's values as float64."""
    values: Floats = tensor.detach().to("cpu", torch.float64).numpy()
    return values


def number(tensor: Tensor, index: Index) -> float:
    """One value; ``index`` is without the batch."""
    return float(tensor.detach()[(0, *index)])


def scalar(tensor: Tensor) -> float:
    """A one-element tensor's value, parameters included."""
    return float(tensor.detach())
