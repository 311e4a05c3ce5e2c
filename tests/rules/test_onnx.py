"""The operator test cases that the ONNX project publishes, made by its own reference code: a third, independent answer.

Not representable, and left out: pooling of uint8 (the rules are for floats), ``storage_order`` 1 (indices counted by
columns), and Lp pooling with p other than 2. Padding that a rule refuses, more than half of a pooling window or larger
on one side ("SAME_UPPER", "SAME_LOWER"), is put around the input first.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convscope.rules.base import Rule
from convscope.rules.conv import Conv
from convscope.rules.conv_transpose import ConvTranspose
from convscope.rules.norm import BatchNorm, LocalResponseNorm
from convscope.rules.pool import AdaptiveMaxPool, AdaptiveMeanPool, L2Pool, MaxPool, MeanPool
from convscope.rules.windows import Edges, pad

onnx = pytest.importorskip("onnx", reason="the onnx package carries the published cases")

OPERATORS = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "LRN",
    "BatchNormalization",
)  # fmt: skip
LEFT_OUT = {
    "test_maxpool_2d_uint8": "the rules are for floating-point numbers",
    "test_maxpool_with_argmax_2d_precomputed_strides": "indices counted by columns (storage_order 1)",
    "test_lppool_1d_default": "p = 3",
    "test_lppool_2d_default": "p = 4",
    "test_lppool_3d_default": "p = 3",
    "test_lppool_2d_same_lower": "p = 4",
    "test_lppool_2d_pads": "p = 3",
}


#: Published with four digits only; the case itself allows a relative error of 1e-3.
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}


@functools.cache
def _cases() -> dict[str, Any]:
    """The published cases of these operators, by name; the collection takes about five seconds."""
    state = np.random.get_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    np.random.set_state(state)
    single = [case for case in found if len(case.model.graph.node) == 1]
    return {case.name: case for case in single if case.model.graph.node[0].op_type in OPERATORS}


def _run(case: Any) -> list[tuple[Tensor, Tensor]]:
    """(ours, published) for every output of the case."""
    node = case.model.graph.node[0]
    options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    pairs = []
    for inputs, outputs in case.data_sets:
        given = [torch.from_numpy(np.array(item)) for item in inputs]
        published = [torch.from_numpy(np.array(item)) for item in outputs]
        pairs += list(zip(_answer(node.op_type, options, given, published), published, strict=True))
    return pairs


def _answer(operator: str, options: dict[str, Any], given: list[Tensor], published: list[Tensor]) -> list[Tensor]:
    x = given[0]
    dims = x.ndim - 2
    if operator == "LRN":
        rule: Rule = LocalResponseNorm(
            options["size"], options.get("alpha", 1e-4), options.get("beta", 0.75), options.get("bias", 1.0)
        )
        return [rule.forward(x)[0]]
    if operator == "BatchNormalization":
        return _batch_norm(options, given, len(published))
    if operator == "GlobalAveragePool":
        return [AdaptiveMeanPool((1,) * dims).forward(x)[0]]
    if operator == "GlobalMaxPool":
        return [AdaptiveMaxPool((1,) * dims).forward(x)[0]]
    kernel = options.get("kernel_shape", given[1].shape[2:] if len(given) > 1 else ())
    stride, dilation = options.get("strides", [1] * dims), options.get("dilations", [1] * dims)
    if operator == "ConvTranspose":
        return [_transposed(options, given, published[0], stride, dilation)]
    edges = _edges(options, x, kernel, stride, dilation)
    if operator == "Conv":
        conv = Conv(dims, stride, edges, dilation, options.get("group", 1))
        return [conv.forward(x, *given[1:])[0]]
    return _pool(operator, options, x, kernel, stride, dilation, edges, len(published))


def _batch_norm(options: dict[str, Any], given: list[Tensor], outputs: int) -> list[Tensor]:
    x, weight, bias, mean, variance = given
    training = bool(options.get("training_mode", 0))
    # ONNX's momentum is the share that stays, and its running variance the biased one
    rule = BatchNorm(training, 1 - options.get("momentum", 0.9), options.get("epsilon", 1e-5))
    moved_mean, moved_variance = mean.clone(), variance.clone()
    y, _ = rule.forward(x, weight, bias, moved_mean, moved_variance)
    n = x.numel() // x.shape[1]
    kept = 1 - (rule.momentum or 0.0)
    moved_variance = kept * variance + (moved_variance - kept * variance) * ((n - 1) / n)
    return [y, moved_mean, moved_variance][:outputs]


def _transposed(options: dict[str, Any], given: list[Tensor], published: Tensor, stride: Any, dilation: Any) -> Tensor:
    x, weight = given[:2]
    dims = x.ndim - 2
    extra = options.get("output_padding", [0] * dims)
    whole = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(x.shape[2:], stride, dilation, weight.shape[2:], extra, strict=True)
    ]
    if "pads" in options:
        before = options["pads"][:dims]
    else:  # output_shape or SAME: the surplus is cut off, half of it (rounded down, SAME_UPPER) before
        surplus = [w - m for w, m in zip(whole, published.shape[2:], strict=True)]
        before = [max(0, cut) // 2 for cut in surplus]
        extra = [e + max(0, -cut) for e, cut in zip(extra, surplus, strict=True)]
    y, _ = ConvTranspose(dims, stride, 0, extra, dilation, options.get("group", 1)).forward(x, weight, *given[2:])
    for axis, (start, size) in enumerate(zip(before, published.shape[2:], strict=True), start=2):
        y = y.narrow(axis, start, size)
    return y


def _edges(options: dict[str, Any], x: Tensor, kernel: Any, stride: Any, dilation: Any) -> Edges:
    dims = x.ndim - 2
    same = options.get("auto_pad", b"NOTSET").decode()
    if same.startswith("SAME"):
        edges = []
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            less, more = total // 2, total - total // 2
            edges.append((less, more) if same == "SAME_UPPER" else (more, less))
        return tuple(edges)
    pads = options.get("pads", [0] * (2 * dims))
    return tuple(zip(pads[:dims], pads[dims:], strict=True))


def _pool(
    operator: str,
    options: dict[str, Any],
    x: Tensor,
    kernel: Any,
    stride: Any,
    dilation: Any,
    edges: Edges,
    outputs: int,
) -> list[Tensor]:
    sizes = (x.ndim - 2, kernel, stride)
    ceil = bool(options.get("ceil_mode", 0))
    inside = all(before == after and 2 * before <= k for (before, after), k in zip(edges, kernel, strict=True))
    padding = [before for before, _ in edges] if inside else 0
    if operator == "MaxPool":
        framed = x if inside else pad(x, edges, -torch.inf)
        largest = MaxPool(*sizes, padding, dilation, ceil, return_indices=outputs == 2)
        y, _ = largest.forward(framed)
        return list(y) if outputs == 2 else [y]
    framed = x if inside else pad(x, edges)
    if operator == "LpPool":
        return [L2Pool(*sizes, padding, dilation, ceil).forward(framed)[0]]
    counted = bool(options.get("count_include_pad", 0))
    mean = MeanPool(*sizes, padding, dilation, ceil, counted)
    y, _ = mean.forward(framed)
    if not inside and not counted:  # the frame is not counted: divide by the share of the window that is inside
        y = y / mean.forward(pad(torch.ones_like(x), edges))[0]
    return [y]


NAMES = (
    "test_averagepool_1d_default", "test_averagepool_2d_ceil", "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_averagepool_2d_default", "test_averagepool_2d_dilations", "test_averagepool_2d_pads",
    "test_averagepool_2d_pads_count_include_pad", "test_averagepool_2d_precomputed_pads",
    "test_averagepool_2d_precomputed_pads_count_include_pad", "test_averagepool_2d_precomputed_same_upper",
    "test_averagepool_2d_precomputed_strides", "test_averagepool_2d_same_lower", "test_averagepool_2d_same_upper",
    "test_averagepool_2d_strides", "test_averagepool_3d_default",
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
    "test_averagepool_3d_dilations_small", "test_basic_conv_with_padding", "test_basic_conv_without_padding",
    "test_batchnorm_epsilon", "test_batchnorm_epsilon_training_mode", "test_batchnorm_example",
    "test_batchnorm_example_training_mode", "test_conv_with_autopad_same",
    "test_conv_with_strides_and_asymmetric_padding", "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding", "test_convtranspose", "test_convtranspose_1d", "test_convtranspose_3d",
    "test_convtranspose_autopad_same", "test_convtranspose_dilations", "test_convtranspose_group_2",
    "test_convtranspose_group_2_image_3", "test_convtranspose_kernel_shape", "test_convtranspose_output_shape",
    "test_convtranspose_pad", "test_convtranspose_pads", "test_globalaveragepool",
    "test_globalaveragepool_precomputed", "test_globalmaxpool", "test_globalmaxpool_precomputed",
    "test_lppool_2d_dilations", "test_lppool_2d_same_upper", "test_lppool_2d_strides", "test_lrn", "test_lrn_default",
    "test_maxpool_1d_default", "test_maxpool_2d_ceil", "test_maxpool_2d_ceil_output_size_reduce_by_one",
    "test_maxpool_2d_default", "test_maxpool_2d_dilations", "test_maxpool_2d_pads", "test_maxpool_2d_precomputed_pads",
    "test_maxpool_2d_precomputed_same_upper", "test_maxpool_2d_precomputed_strides", "test_maxpool_2d_same_lower",
    "test_maxpool_2d_same_upper", "test_maxpool_2d_strides", "test_maxpool_3d_default", "test_maxpool_3d_dilations",
    "test_maxpool_3d_dilations_use_ref_impl", "test_maxpool_3d_dilations_use_ref_impl_large",
    "test_maxpool_with_argmax_2d_precomputed_pads",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_published_case(name: str) -> None:
    if name not in _cases():
        pytest.skip(f"onnx {onnx.__version__} does not carry this case")
    rtol = 1e-3 if name in FOUR_DIGITS else 1e-5
    for ours, published in _run(_cases()[name]):
        torch.testing.assert_close(ours, published, rtol=rtol, atol=1e-5)


def test_no_published_case_is_forgotten() -> None:
    assert set(_cases()) - set(NAMES) - set(LEFT_OUT) == set()


def test_canary() -> None:
    case = _cases()["test_lrn_default"]
    ((ours, published),) = _run(case)
    assert not torch.allclose(ours * 1.001, published, rtol=1e-5, atol=1e-5)
