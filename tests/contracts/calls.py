"""An example call of every layer and function, found by itself: arguments by their usual names, inputs by trying.

A new layer whose arguments have torch's names, and a new function of one tensor, need nothing here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import layers

#: Required arguments of constructors.
ARGUMENTS: dict[str, Any] = {
    "in_channels": 6, "out_channels": 4, "num_channels": 6, "num_features": 6, "in_features": 6, "out_features": 5,
    "in1_features": 6, "in2_features": 6,
    "channels": 6, "kernel_size": 2, "output_size": 2, "padding": 1, "size": 3, "groups": 3, "num_groups": 3,
    "normalized_shape": 7, "norm_type": 2.0, "threshold": 0.1, "value": 0.2, "dim": 1, "unflattened_size": (2, 3),
    "input_size": (9, 7), "region_size": 2, "upscale_factor": 2, "width": 4,
}  # fmt: skip
#: Awkward sizes: height is not width, and neither is a multiple of a stride.
SHAPES = [(3, 6, 9, 7), (3, 6), (3, 6, 7), (3, 6, 5, 4, 7), (3, 84), (3, 7)]


def tensors(*shapes: Sequence[int], seed: int = 0) -> tuple[Tensor, ...]:
    """Numbers of 0.2 to 0.9, none near another's kink: what every function of one tensor takes."""
    stream = torch.Generator().manual_seed(seed)
    return tuple(0.2 + 0.7 * torch.rand(*shape, generator=stream, dtype=torch.float64) for shape in shapes)


def signed(shape: Sequence[int]) -> Tensor:
    """Numbers of −0.9 to −0.2 and of 0.2 to 0.9."""
    (size,) = tensors(shape)
    return size * torch.where(torch.arange(size.numel()).reshape(shape) % 3 == 1, -1, 1)


def _unpool(dimensions: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    pool: Any = getattr(F, f"max_pool{dimensions}d")
    y, places = pool(signed((3, 6, 8, 6, 4)[: 2 + dimensions]), 2, return_indices=True)
    unpool: nn.Module = getattr(nn, f"MaxUnpool{dimensions}d")(2)
    return unpool, (y, places)


def _regions() -> Tensor:
    """Of three pictures of 9 × 7, in pixels twice as many: two that overlap, one partly beyond, one empty."""
    rows = [[0, 1, 1, 12, 9], [0, 3, 2, 13, 16], [2, -5, 4, 6, 30], [1, 8, 8, 3, 2]]
    return torch.tensor(rows, dtype=torch.float64)


def _some_lines() -> tuple[Tensor, ...]:
    """What a loss of texts in lines takes: logarithms of probabilities, texts, and the lengths of both."""
    y = torch.log_softmax(signed((9, 2, 4)) * 3, -1)
    return y, torch.tensor([[1, 2, 2], [3, 1, 2]]), torch.tensor([9, 5]), torch.tensor([3, 2])


#: Layers whose arguments or inputs cannot be found so.
LAYERS: dict[type[nn.Module], Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    nn.MaxUnpool1d: lambda: _unpool(1),
    nn.MaxUnpool2d: lambda: _unpool(2),
    nn.MaxUnpool3d: lambda: _unpool(3),
    nn.Embedding: lambda: (nn.Embedding(7, 5), (torch.tensor([[1, 6, 1], [0, 2, 5]]),)),
    nn.RNN: lambda: (nn.RNN(6, 5, 2, bidirectional=True), (signed((4, 3, 6)),)),
    nn.LSTM: lambda: (nn.LSTM(6, 5, 2, bidirectional=True), (signed((4, 3, 6)),)),
    nn.GRU: lambda: (nn.GRU(6, 5, 2, bidirectional=True), (signed((4, 3, 6)),)),
    nn.CTCLoss: lambda: (nn.CTCLoss(), _some_lines()),
    nn.MultiheadAttention: lambda: (nn.MultiheadAttention(6, 3), tuple(map(signed, ((5, 2, 6), (4, 2, 6), (4, 2, 6))))),
    layers.MaxOverTime: lambda: (layers.MaxOverTime(), (signed((3, 6, 7)),)),
    layers.KeepColumns: lambda: (layers.KeepColumns(), (signed((3, 6, 9, 7)),)),
    layers.RecurrentLayers: lambda: (layers.RecurrentLayers(6, 5, num_layers=2), (signed((3, 4, 6)),)),
    layers.MultiHeadAttention: lambda: (layers.MultiHeadAttention(6, 3), (signed((3, 4, 6)),)),
    layers.AdditiveAttention: lambda: (layers.AdditiveAttention(6, 6, 5), (signed((3, 4, 6)),)),
    layers.PositionalEncoding: lambda: (layers.PositionalEncoding(6, 9), (signed((3, 4, 6)),)),
    layers.LearnedPositions: lambda: (layers.LearnedPositions(6, 9), (signed((3, 4, 6)),)),
    layers.RoIPool: lambda: (layers.RoIPool((3, 2), 0.5), (signed((3, 6, 9, 7)), _regions())),
    layers.RoIAlign: lambda: (layers.RoIAlign((3, 2), 0.5, 2), (signed((3, 6, 9, 7)), _regions())),
    layers.TableConv2d: lambda: (layers.TableConv2d(6, 16, 5, table="lenet5_c3"), (signed((3, 6, 9, 7)),)),
}


class Taking(nn.Sequential):
    """A model of one layer, which takes all inputs of the layer."""

    def forward(self, *inputs: Tensor) -> Any:
        return self[0](*inputs)


class Beside(nn.Sequential):
    """A model of one layer and of one input: what else the layer takes is always the same."""

    def __init__(self, layer: nn.Module, others: tuple[Tensor, ...]) -> None:
        super().__init__(layer)
        self.others = others

    def forward(self, x: Tensor) -> Any:
        return self[0](x, *self.others)


def model_of(layer: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Sequential:
    """A model of the layer alone, ``"0"``."""
    return nn.Sequential(layer) if len(inputs) == 1 else Taking(layer)


def layer_call(cls: type[nn.Module]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A layer of the class, in float64, and inputs that it takes; the layer has been called once."""
    if cls in LAYERS:
        layer, inputs = LAYERS[cls]()
        return layer.double(), inputs
    required = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if (parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD)
        or (name == "dim" and parameter.default is None)  # softmax: torch wants it, and warns
    ]
    unknown = [name for name in required if name not in ARGUMENTS]
    assert not unknown, f"{cls.__name__}: which {', '.join(unknown)}? Say so in tests/contracts/calls.py"
    torch.manual_seed(1)
    layer = cls(**{name: ARGUMENTS[name] for name in required}).double()
    dimensions = next((d for d in (1, 2, 3) if cls.__name__.endswith(f"{d}d")), None)
    forward = inspect.signature(layer.forward).parameters.values()
    count = sum(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in forward)
    for shape in SHAPES:
        if dimensions is not None and len(shape) != dimensions + 2:
            continue
        inputs = (signed(shape), *tensors(*[shape] * (count - 1)))
        try:
            layer(*inputs)
        except (RuntimeError, ValueError, IndexError, AssertionError):
            continue
        return layer, inputs
    raise AssertionError(f"{cls.__name__} takes none of {SHAPES}: say what it takes in tests/contracts/calls.py")


def function_calls() -> list[tuple[Any, ...]]:
    """Arguments to try a function with, one after another."""
    x, y, square, kernel, mean, variance = tensors((3, 6, 9, 7), (3, 6, 9, 7), (3, 4, 4), (4, 6, 2, 2), (6,), (6,))
    line, volume, row, matrix = tensors((3, 6, 9), (2, 6, 4, 5, 3), (3, 6), (5, 6))
    flat_kernel, deep_kernel = tensors((4, 6, 2), (4, 6, 2, 2, 2))
    back, flat_back, deep_back = tensors((6, 4, 2, 2), (6, 4, 2), (6, 4, 2, 2, 2))
    theta, places = tensors((3, 2, 3), (3, 5, 4, 2))
    return [
        (x,), (x, y), (x, 2), (x, 2.0), (square, square), (row, matrix.T.contiguous()), (row, matrix), ([x, y],),
        (x, kernel), (line, flat_kernel), (volume, deep_kernel), (x, back), (line, flat_back), (volume, deep_back),
        (line, 2), (volume, 2), (x, mean), (x, mean, variance), (x, 3), (x, (3, -1)), (x, (1, 1, 2, 0)), (x, 1),
        (x, 0, 1), (x, (0, 2, 1, 3)), (x, [3, 3], 1), (x, 2, 1), (x, slice(1, 3)), (x, (slice(None), [2, 0, 2])),
        (x, (slice(None), 1)), ([x, y], 1), (x, 0.3, 0.7), (x, 3, 0.2), (x, (7,)), (x, -1), (x, 0.5, False),
        (x, 0.4, 0.1), (row, 0, 1), (row.unsqueeze(0).repeat(3, 1, 1),), (row,), (x, 3, 6, 9, 7), (x, 18, 63),
        (x[:, :1], 3, 6, 9, 7), (torch.tensor([[1, 4, 1], [0, 2, 3]]), nn.Parameter(matrix)), (line, line, line),
        _some_lines(), (theta, [3, 6, 5, 4], False), (x, places, "bilinear", "zeros", False),
        (square, 2 * square[:, 1:3], (("narrow", (1, 1, 2), {}, ()),)),
        (x, _regions(), (3, 2), 0.5),
    ]  # fmt: skip
