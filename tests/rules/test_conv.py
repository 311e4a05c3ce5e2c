"""Convolution against printed numbers, loops, autograd and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import check_rule, conv_by_loops, worst
from torch import nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.conv import Conv

# The worked example of "「卷积神经网络」深入浅出": input, kernel and four printed results.
PRINTED_X = [[1, 2, 0, 3, 1], [0, 1, 2, 3, 1], [1, 2, 1, 0, 0], [5, 2, 3, 1, 1], [2, 1, 0, 1, 1]]
PRINTED_K = [[1, 2, 1], [0, 1, 0], [2, 1, 0]]
PRINTED_Y: list[tuple[dict[str, Any], list[list[int]]]] = [
    ({}, [[10, 12, 12], [18, 16, 16], [13, 9, 3]]),
    ({"stride": 2}, [[10, 12], [13, 3]]),
    ({"padding": 1}, [[1, 3, 4, 10, 8], [5, 10, 12, 12, 6], [7, 18, 16, 16, 8], [11, 13, 9, 3, 4], [14, 13, 9, 7, 4]]),
    ({"dilation": 2}, [[7]]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize(("options", "printed"), PRINTED_Y)
def test_printed_results(options: dict[str, Any], printed: list[list[int]], dtype: torch.dtype) -> None:
    x, k = torch.tensor(PRINTED_X, dtype=dtype), torch.tensor(PRINTED_K, dtype=dtype)
    y, _ = Conv(2, **options).forward(x[None, None], k[None, None])
    assert y[0, 0].tolist() == printed


def test_hand_worked_backward() -> None:
    """A 3×3 picture, a 2×2 kernel, δ = 1 everywhere: every number can be read off."""
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    k = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    rule = Conv(2)
    _, saved = rule.forward(x, k, torch.zeros(1))
    (delta_x,), gradients = rule.backward(saved, torch.ones(1, 1, 2, 2))
    assert delta_x is not None
    assert delta_x[0, 0].tolist() == [[1, 3, 2], [4, 10, 6], [3, 7, 4]]
    assert gradients["weight"][0, 0].tolist() == [[8, 12], [20, 24]]
    assert gradients["bias"].tolist() == [4]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_delta_is_the_full_convolution_with_the_rotated_kernel(stride: int, dilation: int) -> None:
    """Xue 2016, eq. (27), word by word: δ spread by the stride, framed, correlated with rot180 of the kernels, input
    and output maps exchanged."""
    x, k = torch.randn(2, 3, 11, 9, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    rule = Conv(2, stride, 0, dilation)
    y, saved = rule.forward(x, k)
    delta = torch.randn_like(y)
    ((found,), _) = rule.backward(saved, delta)
    spread = torch.zeros(2, 4, *((n - 1) * stride + 1 for n in y.shape[2:]), dtype=torch.float64)
    spread[:, :, ::stride, ::stride] = delta
    expected = F.conv2d(spread, k.transpose(0, 1).flip(2, 3), padding=2 * dilation, dilation=dilation)
    assert found is not None
    assert worst(found, expected) <= 1e-12


def test_kernel_gradient_is_the_valid_correlation_with_delta() -> None:
    """Eq. (24): image by image the correlation of x_i with δ_j; for a true convolution, rotated."""
    x, k = torch.randn(2, 3, 7, 6, dtype=torch.float64), torch.randn(4, 3, 3, 2, dtype=torch.float64)
    for true_convolution in (False, True):
        rule = Conv(2, true_convolution=true_convolution)
        y, saved = rule.forward(x, k)
        delta = torch.randn_like(y)
        _, gradients = rule.backward(saved, delta)
        expected = torch.zeros_like(k)
        for i, j in ((i, j) for i in range(3) for j in range(4)):
            for image in range(2):
                expected[j, i] += F.conv2d(x[image, i][None, None], delta[image, j][None, None])[0, 0]
        expected = expected.flip(2, 3) if true_convolution else expected
        assert worst(gradients["weight"], expected) <= 1e-12
        torch.testing.assert_close(gradients.get("bias", delta.sum((0, 2, 3))), delta.sum((0, 2, 3)))


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    number = {"kernel": st.integers(1, 3), "stride": st.integers(1, 3), "dilation": st.integers(1, 2)}
    sizes = {name: tuple(draw(values) for _ in range(dims)) for name, values in number.items()}
    padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    reach = [d * (k - 1) + 1 for k, d in zip(sizes["kernel"], sizes["dilation"], strict=True)]
    extra = [draw(st.integers(0, 5)) for _ in range(dims)]
    size = tuple(max(1, r - 2 * p + e) for r, p, e in zip(reach, padding, extra, strict=True))
    return {
        "dims": dims, "groups": groups, "padding": padding, "size": size, **sizes,
        "n": draw(st.integers(1, 3)),
        "in": groups * draw(st.integers(1, 2)), "out": groups * draw(st.integers(1, 3)),
        "bias": draw(st.booleans()), "true_convolution": draw(st.booleans()), "seed": draw(st.integers(0, 2**31)),
    }  # fmt: skip


def _tensors(g: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(g["seed"])
    x = torch.randn(g["n"], g["in"], *g["size"], dtype=torch.float64)
    parameters = {"weight": torch.randn(g["out"], g["in"] // g["groups"], *g["kernel"], dtype=torch.float64)}
    if g["bias"]:
        parameters["bias"] = torch.randn(g["out"], dtype=torch.float64)
    return x, parameters


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_against_autograd_and_finite_differences(g: dict[str, Any]) -> None:
    x, parameters = _tensors(g)
    function = (F.conv1d, F.conv2d, F.conv3d)[g["dims"] - 1]
    spatial = tuple(range(-g["dims"], 0))

    def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        kernels = weight.flip(spatial) if g["true_convolution"] else weight
        return function(x, kernels, bias, g["stride"], g["padding"], g["dilation"], g["groups"])

    options = {name: g[name] for name in ("stride", "padding", "dilation", "groups", "true_convolution")}
    check_rule(Conv(g["dims"], **options), reference, [x], parameters)


@settings(max_examples=20, deadline=None)
@given(geometries())
def test_against_loops(g: dict[str, Any]) -> None:
    x, parameters = _tensors(g)
    options = {name: g[name] for name in ("stride", "padding", "dilation", "groups", "true_convolution")}
    y, _ = Conv(g["dims"], **options).forward(x, **parameters)
    bias = parameters["bias"].numpy() if g["bias"] else None
    expected = conv_by_loops(x.numpy(), parameters["weight"].numpy(), bias, **options)
    assert worst(y, torch.from_numpy(expected)) <= 1e-12


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, tuple[tuple[int, ...], ...]]:
    maps = draw(st.integers(1, 5))
    row = st.sets(st.integers(0, maps - 1), min_size=1).map(lambda chosen: tuple(sorted(chosen)))
    return maps, tuple(draw(st.lists(row, min_size=1, max_size=5)))


@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(1, 2), st.integers(0, 1), st.booleans(), st.booleans())
def test_connection_tables(
    drawn: tuple[int, tuple[tuple[int, ...], ...]], stride: int, padding: int, true_convolution: bool, compact: bool
) -> None:
    maps, table = drawn
    x = torch.randn(2, maps, 5, 4, dtype=torch.float64)
    count = sum(map(len, table))
    mask = torch.zeros(len(table), maps, 1, 1, dtype=torch.float64)
    for j, row in enumerate(table):
        mask[j, list(row)] = 1

    def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if compact:
            whole = torch.zeros(len(table), maps, 3, 2, dtype=torch.float64)
            weight = whole.masked_scatter(mask.bool().expand_as(whole), weight)
        kernels = weight * mask
        return F.conv2d(x, kernels.flip(2, 3) if true_convolution else kernels, bias, stride, padding)

    shape = (count, 3, 2) if compact else (len(table), maps, 3, 2)
    parameters = {
        "weight": torch.randn(shape, dtype=torch.float64),
        "bias": torch.randn(len(table), dtype=torch.float64),
    }
    rule = Conv(2, stride, padding, table=table, true_convolution=true_convolution)
    check_rule(rule, reference, [x], parameters)
    if not compact:
        expected = conv_by_loops(
            x.numpy(), parameters["weight"].numpy(), parameters["bias"].numpy(), (stride,) * 2, (padding,) * 2,
            table=table, true_convolution=true_convolution,
        )  # fmt: skip
        assert worst(rule.forward(x, **parameters)[0], torch.from_numpy(expected)) <= 1e-12


@pytest.mark.parametrize("batch", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_awkward_sizes(batch: int, channels: int) -> None:
    x = torch.randn(batch, channels, 7, 5, dtype=torch.float64)
    parameters = {"weight": torch.randn(3, channels, 3, 2, dtype=torch.float64)}
    check_rule(Conv(2, (3, 2), (1, 0)), lambda x, weight: F.conv2d(x, weight, None, (3, 2), (1, 0)), [x], parameters)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's remark on its own speed
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(kernel: tuple[int, int], dilation: int) -> None:
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    parameters = {"weight": torch.randn(4, 3, *kernel, dtype=torch.float64)}
    module = nn.Conv2d(3, 4, kernel, padding="same", dilation=dilation, bias=False).double()
    rule = Conv(2, 1, "same", dilation)
    check_rule(rule, lambda x, weight: torch.func.functional_call(module, {"weight": weight}, (x,)), [x], parameters)
    valid = Conv(2, 1, "valid", dilation)
    assert torch.equal(valid.forward(x, **parameters)[0], Conv(2, 1, 0, dilation).forward(x, **parameters)[0])


def test_asymmetric_padding() -> None:
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    parameters = {"weight": torch.randn(3, 2, 3, 3, dtype=torch.float64)}
    check_rule(
        Conv(2, 2, ((0, 1), (2, 0))),
        lambda x, weight: F.conv2d(F.pad(x, (2, 0, 0, 1)), weight, None, 2),
        [x],
        parameters,
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode: Any) -> None:
    module = nn.Conv2d(2, 3, 3, 2, (1, 2), padding_mode=mode).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    names = ("weight", "bias")
    parameters = {name: getattr(module, name).detach() for name in names}

    def reference(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))
        return y

    check_rule(applied.rule, reference, [x], parameters)


def test_float32_stays_float32() -> None:
    x, k = torch.randn(2, 3, 6, 5), torch.randn(4, 3, 3, 3)
    rule = Conv(2, padding=1)
    y, saved = rule.forward(x, k)
    (delta_x,), gradients = rule.backward(saved, torch.ones_like(y))
    assert delta_x is not None
    assert {y.dtype, delta_x.dtype, gradients["weight"].dtype} == {torch.float32}
    # 27 products a sum: a few eps times √27 at most
    assert worst(y, F.conv2d(x, k, padding=1)) <= 8 * np.finfo(np.float32).eps * 27**0.5


def test_canary() -> None:
    """An error in one kernel tap, or a forgotten rotation, must be caught."""

    class Wrong(Conv):
        def backward(self, saved: Any, delta: Any) -> Any:
            return super().backward({**saved, "weight": saved["weight"].flip(2)}, delta)

    x, k = torch.randn(1, 2, 5, 5, dtype=torch.float64), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Wrong(2), F.conv2d, [x], {"weight": k})
    nearly = k.clone()
    nearly[0, 0, 0, 0] += 1e-6
    with pytest.raises(AssertionError, match="forward"):
        check_rule(Conv(2), lambda x, weight: F.conv2d(x, nearly), [x], {"weight": k})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(2, stride=0), "stride: got 0, wanted an integer ≥ 1"),
        (lambda: Conv(2, dilation=(1, 2, 3)), r"dilation: got \(1, 2, 3\)"),
        (lambda: Conv(2, padding=-1), "padding: got -1, wanted an integer ≥ 0"),
        (lambda: Conv(2, padding="full"), 'padding: got \'full\', wanted "same", "valid" or numbers'),
        (lambda: Conv(2, padding=((0, 1),)), r"wanted 2 pairs \(before, after\)"),
        (lambda: Conv(2, 2, "same"), "padding: got 'same', wanted a number of zeros, since the stride is not 1"),
        (lambda: Conv(2, padding_mode="mirror"), "padding_mode: got 'mirror', wanted one of zeros"),
        (lambda: Conv(2, groups=2, table=((0,), (1,))), "groups: got 2, wanted 1, since a connection table is given"),
        (lambda: Conv(2).forward(torch.zeros(3, 4, 4), torch.zeros(1, 3, 2, 2)), r"x: got \(3, 4, 4\)"),
        (lambda: Conv(2).forward(torch.zeros(1, 3, 4, 4), torch.zeros(3, 2, 2)), r"weight: got \(3, 2, 2\)"),
        (lambda: Conv(2).forward(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 2, 2)), "wanted 2 channels"),
        (
            lambda: Conv(2, groups=2).forward(torch.zeros(1, 4, 4, 4), torch.zeros(3, 2, 2, 2)),
            "groups: got 2, wanted a divisor of the 3 output maps",
        ),
        (
            lambda: Conv(2).forward(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 3, 3)),
            "kernel_size: got 3, wanted a kernel that fits into the input",
        ),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
