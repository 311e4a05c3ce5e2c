"""Convolutions, fully connected layers, normalisations, recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.extents import Sized
from convscope.exporting.writer import Writer, converts


@converts("convolution.default")
def convolution(
    write: Writer,
    result: Sized,
    x: Sized,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    rank = len(weight.shape) - 2
    stride, padding, dilation = (list(each) * (rank // len(each)) for each in (stride, padding, dilation))
    shared: dict[str, Any] = {"strides": stride, "pads": padding * 2, "dilations": dilation, "group": groups}
    if transposed:
        return write.node("ConvTranspose", x, weight, bias, output_padding=list(output_padding), **shared)
    return write.node("Conv", x, weight, bias, **shared)


@converts("addmm.default")
def addmm(write: Writer, result: Sized, more: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    if isinstance(b, Tensor) and not b.is_contiguous() and b.t().is_contiguous():  # the layer's own weight
        return write.node("Gemm", a, b.t(), more, alpha=float(alpha), beta=float(beta), transB=1)
    return write.node("Gemm", a, b, more, alpha=float(alpha), beta=float(beta))


@converts("mm.default", "bmm.default", "mv.default", "dot.default")
def product(write: Writer, result: Sized, a: Any, b: Any) -> Any:
    return write.node("MatMul", a, b)


@converts("baddbmm.default")
def baddbmm(write: Writer, result: Sized, more: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    y = write.node("MatMul", a, b)
    if alpha != 1:
        y = write.node("Mul", y, write.scalar(float(alpha), result.dtype))
    if beta == 0:
        return y
    scaled = more if beta == 1 else write.node("Mul", more, write.scalar(float(beta), result.dtype))
    return write.node("Add", y, scaled)


@converts("native_batch_norm.default", "cudnn_batch_norm.default")
def batch_norm(
    write: Writer,
    result: Sized,
    x: Sized,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if training or mean is None:
        raise ExportError(
            write.layer, "it normalises by the batch that it is given: an answer depends on its neighbours"
        )
    channels = torch.ones(mean.shape, dtype=mean.dtype, device=mean.device)
    given = (channels if weight is None else weight, torch.zeros_like(channels) if bias is None else bias)
    return write.node("BatchNormalization", x, *given, mean, variance, epsilon=eps), None, None


@converts("_native_batch_norm_legit_no_training.default")
def batch_norm_fixed(
    write: Writer, result: Sized, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    return batch_norm(write, result, x, weight, bias, mean, variance, False, momentum, eps)


@converts("native_layer_norm.default")
def layer_norm(write: Writer, result: Sized, x: Sized, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    scale = torch.ones(tuple(shape), dtype=x.dtype) if weight is None else weight
    return write.node("LayerNormalization", x, scale, bias, axis=-len(shape), epsilon=eps), None, None


@converts("embedding.default")
def embedding(write: Writer, result: Sized, weight: Any, indices: Any, *_: Any, **__: Any) -> Any:
    return write.node("Gather", weight, indices, axis=0)


@converts("mkldnn_rnn_layer.default")
def lstm(
    write: Writer,
    result: Sized,
    x: Sized,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    recurrent_bias: Tensor,
    hidden: Any,
    cell: Any,
    reverse: bool,
    batch_sizes: Sequence[int],
    mode: int,
    size: int,
    *_: Any,
) -> Any:
    """One direction of one layer: x (t, n, features), hidden and cell (n, size)."""
    if mode != 2 or batch_sizes:
        raise ExportError(write.layer, "a packed sequence, or a recurrent layer of another kind than LSTM")
    gates = [_onnx_order(each)[None] for each in (weight, recurrent)]  # (1, 4·size, …)
    biases = torch.cat([_onnx_order(bias), _onnx_order(recurrent_bias)])[None]  # (1, 8·size)
    first = [write.node("Unsqueeze", each, write.integers([0])) for each in (hidden, cell)]  # (1, n, size)
    direction = "reverse" if reverse else "forward"
    y, last, memory = write.node(
        "LSTM", x, *gates, biases, None, *first, outputs=3, hidden_size=size, direction=direction
    )
    axis = write.integers([1])
    steps = write.node("Squeeze", y, axis)  # (t, n, size)
    ends = [write.node("Squeeze", each, write.integers([0])) for each in (last, memory)]
    return steps, *ends, None


def _onnx_order(gates: Tensor) -> Tensor:
    """An LSTM's gates, by torch (input, forget, cell, output), in ONNX's order: (input, output, forget, cell)."""
    i, f, g, o = gates.detach().chunk(4)
    return torch.cat([i, o, f, g])


@converts("grid_sampler_2d.default")
def grid_sample(
    write: Writer, result: Sized, x: Any, grid: Any, mode: int = 0, padding: int = 0, align_corners: bool = False
) -> Any:
    return write.node(
        "GridSample", x, grid, mode=("linear", "nearest", "cubic")[mode],
        padding_mode=("zeros", "border", "reflection")[padding], align_corners=int(align_corners),
    )  # fmt: skip


@converts("affine_grid_generator.default")
def affine_grid(write: Writer, result: Sized, theta: Sized, size: Sequence[Any], align_corners: bool) -> Any:
    """theta (n, 2, 3) → (n, h, w, 2): every place (x, y, 1) of the picture times theta's transpose."""
    if len(size) != 4:
        raise ExportError(write.layer, "an affine grid in space")
    height, width = size[2:]
    unit = torch.eye(2, 3, dtype=theta.dtype)[None]
    places = torch.nn.functional.affine_grid(unit, [1, 1, height, width], align_corners=align_corners)
    ones = torch.ones(1, height, width, 1, dtype=theta.dtype)
    base = torch.cat([places, ones], -1).reshape(1, height * width, 3)
    moved = write.node("MatMul", base, write.node("Transpose", theta, perm=[0, 2, 1]))  # (n, h·w, 2)
    return write.node("Reshape", moved, write.sizes(result.shape, free=True))
