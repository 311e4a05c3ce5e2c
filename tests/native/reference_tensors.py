"""The reference engine's general tensor operations, each as directly as torch can say it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Attributes = dict[str, Any]
Layer = Callable[[list[Tensor], dict[str, Any], Attributes], Tensor]


def _matrix(size: int, a: Attributes, side: str, like: Tensor) -> Tensor:
    """(outputs, size): the weights of one side's table."""
    sources = a[f"{side}_sources"]
    weights = iter(a.get(f"{side}_weights") or [1.0] * sum(map(len, sources)))
    matrix = like.new_zeros(len(sources), size)
    for row, own in enumerate(sources):
        for source in own:
            matrix[row, source] += next(weights)
    return matrix


def _resample(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    x = inputs[0]
    rows, columns = _matrix(x.shape[2], a, "row", x), _matrix(x.shape[3], a, "column", x)
    return rows @ x @ columns.T


def _max_windows(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    x = inputs[0]
    return torch.stack(
        [
            torch.stack([x[:, :, rows][..., columns].flatten(2).max(2).values for columns in a["column_sources"]], -1)
            for rows in a["row_sources"]
        ],
        -2,
    )


def _gather(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    places = torch.full((), a.get("offset", 0))
    for size, stride in zip(a["sizes"], a["strides"], strict=True):
        places = places[..., None] + torch.arange(size) * stride
    return inputs[0].flatten(1)[:, places.flatten()].view(-1, *a["shape"])


def _reduced(fold: Callable[..., Tensor]) -> Layer:
    def layer(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
        return fold(inputs[0], [axis + 1 for axis in range(3) if a["over"][axis]], True)

    return layer


def _maximum(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    x = inputs[0]
    dims = [axis + 1 for axis in range(3) if a["over"][axis]]
    if a.get("share"):
        return x.amax(dims, True)
    kept = [1 if axis in dims else x.shape[axis] for axis in range(1, 4)]
    order = [0, *(axis for axis in range(1, 4) if axis not in dims), *dims]
    count = math.prod(x.shape[axis] for axis in dims)
    found = x.permute(order).reshape(-1, count).max(1).values
    return found.view(len(x), *kept)


def _layer_norm(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    x = inputs[0].permute(0, 2, 3, 1)
    return F.layer_norm(x, x.shape[3:], p["weight"], p["bias"], a.get("eps", 1e-5)).permute(0, 3, 1, 2)


def _transposed(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    return F.conv_transpose2d(
        inputs[0], p["weight"], p["bias"], a["stride"], a["padding"], a["output_padding"], a["groups"], a["dilation"]
    )


def _softmax(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    return (F.log_softmax if a.get("logarithm") else F.softmax)(inputs[0], 1)


LAYERS: dict[str, Layer] = {
    "add": lambda i, p, a: sum(i[1:], start=i[0]),
    "subtract": lambda i, p, a: i[0] - i[1],
    "multiply": lambda i, p, a: i[0] * i[1],
    "divide": lambda i, p, a: i[0] / i[1],
    "maximum": lambda i, p, a: torch.maximum(i[0], i[1]),
    "minimum": lambda i, p, a: torch.minimum(i[0], i[1]),
    "gather": _gather,
    "reshape": lambda i, p, a: i[0].reshape(len(i[0]), *a["shape"]),
    "resample": _resample,
    "max_windows": _max_windows,
    "reduce_sum": _reduced(torch.sum),
    "reduce_mean": _reduced(torch.mean),
    "reduce_max": _maximum,
    "group_norm": lambda i, p, a: F.group_norm(i[0], a["groups"], p["weight"], p["bias"], a.get("eps", 1e-5)),
    "layer_norm": _layer_norm,
    "conv_transpose2d": _transposed,
    "softmax": _softmax,
    "clamp": lambda i, p, a: i[0].clamp(a.get("low"), a.get("high")),
    "gelu": lambda i, p, a: F.gelu(i[0]),
    "gelu_tanh": lambda i, p, a: F.gelu(i[0], approximate="tanh"),
    "mish": lambda i, p, a: F.mish(i[0]),
    "hard_swish": lambda i, p, a: F.hardswish(i[0]),
    "soft_sign": lambda i, p, a: F.softsign(i[0]),
    "tanh_shrink": lambda i, p, a: F.tanhshrink(i[0]),
    "hard_shrink": lambda i, p, a: F.hardshrink(i[0], a["lambda"]),
    "soft_shrink": lambda i, p, a: F.softshrink(i[0], a["lambda"]),
    "threshold": lambda i, p, a: F.threshold(i[0], a["threshold"], a["value"]),
    "absolute": lambda i, p, a: i[0].abs(),
    "exponential": lambda i, p, a: i[0].exp(),
    "logarithm": lambda i, p, a: i[0].log(),
    "square_root": lambda i, p, a: i[0].sqrt(),
    "inverse_root": lambda i, p, a: i[0].rsqrt(),
    "reciprocal": lambda i, p, a: i[0].reciprocal(),
    "power": lambda i, p, a: i[0].pow(a["exponent"]),
    "erf": lambda i, p, a: i[0].erf(),
}
