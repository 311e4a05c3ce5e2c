"""Pooling against printed numbers, loops, torch under autograd and finite differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.oracles import check_model, check_rule, pool_by_loops, well_apart, worst
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.pool import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    L2Pool,
    MaxPool,
    MeanPool,
    MedianPool,
    MinPool,
    Pool,
    SumPool,
)

# The two printed results of "「卷积神经网络」深入浅出".
PRINTED_X = [[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("rule", "printed"),
    [(MaxPool(2, 2), [[6, 8], [3, 4]]), (MeanPool(2, 2), [[3.25, 5.25], [2, 2]])],
    ids=["max", "mean"],
)
def test_printed_results(rule: Pool, printed: list[list[float]]) -> None:
    y, _ = rule.forward(torch.tensor(PRINTED_X)[None, None])
    assert y[0, 0].tolist() == printed


def test_worked_one_dimensional_example() -> None:
    """[1, 2, 3, 2]: max 3 goes back as [0, 0, 3, 0]; mean 2 goes back as 2/4 each, the true derivative."""
    x = torch.tensor([[[1.0, 2, 3, 2]]])
    for rule, value, back in ((MaxPool(1, 4), 3, [0, 0, 3, 0]), (MeanPool(1, 4), 2, [0.5, 0.5, 0.5, 0.5])):
        y, saved = rule.forward(x)
        assert y.flatten().tolist() == [value]
        ((delta_x,), _) = rule.backward(saved, y)
        assert delta_x is not None
        assert delta_x.flatten().tolist() == back


def test_equals_are_decided_as_torch_does() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1:3, 1:3] = 1.0
    rule = MaxPool(2, 3, 1)
    y, saved = rule.forward(x)
    ((delta_x,), _) = rule.backward(saved, torch.ones_like(y))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.max_pool2d(leaf, 3, 1).sum(), leaf)
    assert delta_x is not None
    assert torch.equal(delta_x, expected)
    smallest = MinPool(2, 3, 1)
    _, saved = smallest.forward(-x)
    assert torch.equal(smallest.backward(saved, torch.ones_like(y))[0][0], delta_x)  # type: ignore[arg-type]


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.sampled_from([1, 2, 2, 3]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(1, r - 2 * p) + draw(st.integers(0, 5)) for r, p in zip(reach, padding, strict=True))
    stride = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        # torch's max pooling writes outside its memory where a window holds nothing but padding
        starts = range(-p, n + p - d * (k - 1) + s, s)
        assume(all(any(0 <= start + tap * d < n for tap in range(k)) for start in starts if start < n))
    return {
        "dims": dims, "kernel_size": kernel, "dilation": dilation, "padding": padding, "size": size,
        "stride": stride, "ceil_mode": draw(st.booleans()),
        "n": draw(st.integers(1, 2)), "c": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 2**31)),
    }  # fmt: skip


def _rule(cls: type[Pool], g: dict[str, Any], **more: Any) -> Any:
    names = ("dims", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return cls(**{name: g[name] for name in names}, **more)


def _input(g: dict[str, Any]) -> Tensor:
    torch.manual_seed(g["seed"])
    return well_apart(g["n"], g["c"], *g["size"])


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_max_and_min_against_torch(g: dict[str, Any]) -> None:
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[g["dims"] - 1]
    sizes = (g["kernel_size"], g["stride"], g["padding"], g["dilation"], g["ceil_mode"])
    x = _input(g)
    check_rule(_rule(MaxPool, g), lambda x: function(x, *sizes), [x])
    check_rule(_rule(MinPool, g), lambda x: -function(-x, *sizes), [x])


@settings(max_examples=40, deadline=None)
@given(geometries(), st.booleans(), st.sampled_from([None, 3]))
def test_mean_against_torch(g: dict[str, Any], count_include_pad: bool, divisor: int | None) -> None:
    g["dilation"] = (1,) * g["dims"]
    if g["dims"] == 3:  # torch's avg_pool3d wants kernels that fit without the padding
        assume(all(n >= k for n, k in zip(g["size"], g["kernel_size"], strict=True)))
    function: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[g["dims"] - 1]
    options: list[Any] = [g["ceil_mode"], count_include_pad]
    if g["dims"] > 1:
        options.append(divisor)
    else:
        divisor = None
    rule = _rule(MeanPool, g, count_include_pad=count_include_pad, divisor=divisor)
    check_rule(rule, lambda x: function(x, g["kernel_size"], g["stride"], g["padding"], *options), [_input(g)])


STATISTICS: dict[type[Pool], Callable[[list[float]], float]] = {
    MaxPool: max,
    MinPool: min,
    SumPool: math.fsum,
    L2Pool: lambda elements: math.sqrt(math.fsum(e * e for e in elements)),
    MedianPool: statistics.median_low,
}


@pytest.mark.parametrize("cls", list(STATISTICS))
@settings(max_examples=15, deadline=None)
@given(g=geometries())
def test_against_loops(cls: type[Pool], g: dict[str, Any]) -> None:
    x = _input(g)
    y, saved = _rule(cls, g).forward(x)
    out = tuple(y.shape[2:])
    arguments = (g["kernel_size"], g["stride"], g["padding"], g["dilation"], out)
    expected = pool_by_loops(x.numpy(), STATISTICS[cls], *arguments)
    assert worst(y, torch.from_numpy(expected)) <= 1e-12
    assert set(saved) == set(cls.needs)


@pytest.mark.parametrize("cls", list(STATISTICS))
@pytest.mark.parametrize("sizes", [(2, None, 0, 1), ((3, 2), (2, 3), (1, 0), 1), (3, 1, 1, 1), (2, 1, 1, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_backward_against_unfolded_windows(cls: type[Any], sizes: tuple[Any, ...], ceil_mode: bool) -> None:
    """torch's own unfold lays the windows side by side; autograd differentiates the statistic over them."""
    rule = cls(2, *sizes, ceil_mode=ceil_mode)
    x = well_apart(2, 3, 7, 6)
    fills: dict[type[Any], float] = {MaxPool: -math.inf, MinPool: math.inf, MedianPool: math.nan}
    empty = fills.get(cls, 0.0)
    out = rule.forward(x)[0].shape[2:]

    def reference(x: Tensor) -> Tensor:
        padded = F.pad(x, (rule.padding[1], 9, rule.padding[0], 9), value=empty)
        for axis in (0, 1):
            reach = rule.dilation[axis] * (rule.kernel_size[axis] - 1) + 1
            padded = padded.unfold(2 + axis, reach, rule.stride[axis])
        seen = padded[:, :, : out[0], : out[1], :: rule.dilation[0], :: rule.dilation[1]].flatten(4)
        statistic: dict[type[Pool], Callable[[Tensor], Tensor]] = {
            MaxPool: lambda w: w.max(-1).values,
            MinPool: lambda w: w.min(-1).values,
            SumPool: lambda w: w.sum(-1),
            L2Pool: lambda w: torch.linalg.vector_norm(w, dim=-1),
            MedianPool: lambda w: w.nanmedian(-1).values,
        }
        return statistic[cls](seen)

    check_rule(rule, reference, [x])


def test_l2_of_zeros_has_no_slope() -> None:
    rule = L2Pool(2, 2)
    y, saved = rule.forward(torch.zeros(1, 1, 4, 4))
    ((delta_x,), _) = rule.backward(saved, torch.ones_like(y))
    assert delta_x is not None
    assert torch.equal(delta_x, torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("size", [(7, 5), (4, 4), (1, 9)])
@pytest.mark.parametrize("bins", [(1, 1), (3, 2), (7, 5), (4, None)])
def test_adaptive(size: tuple[int, int], bins: Any) -> None:
    x = well_apart(2, 3, *size)
    check_rule(AdaptiveMeanPool(bins), lambda x: F.adaptive_avg_pool2d(x, bins), [x])
    check_rule(AdaptiveMaxPool(bins), lambda x: F.adaptive_max_pool2d(x, bins), [x])
    y, indices = AdaptiveMaxPool(bins, return_indices=True).forward(x)[0]
    expected = F.adaptive_max_pool2d(x, bins, return_indices=True)
    assert torch.equal(y, expected[0])
    assert torch.equal(indices, expected[1])


@pytest.mark.parametrize("dims", [1, 3])
def test_adaptive_in_other_dimensions(dims: int) -> None:
    x = well_apart(2, 3, *(5, 4, 6)[:dims])
    mean: Any = {1: F.adaptive_avg_pool1d, 3: F.adaptive_avg_pool3d}[dims]
    largest: Any = {1: F.adaptive_max_pool1d, 3: F.adaptive_max_pool3d}[dims]
    check_rule(AdaptiveMeanPool((2,) * dims), lambda x: mean(x, (2,) * dims), [x])
    check_rule(AdaptiveMaxPool((2,) * dims), lambda x: largest(x, (2,) * dims), [x])


@pytest.mark.parametrize("batch", [1, 15, 16, 17, 33])
def test_awkward_batches_overlapping(batch: int) -> None:
    """AlexNet's overlapping pooling, 3×3 windows every 2, on a map whose height is not its width."""
    x = well_apart(batch, 3, 7, 9)
    check_rule(MaxPool(2, 3, 2), lambda x: F.max_pool2d(x, 3, 2), [x])
    check_rule(MeanPool(2, 3, 2), lambda x: F.avg_pool2d(x, 3, 2), [x])


MODULES: list[nn.Module] = [
    nn.MaxPool1d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool3d(2, 1), nn.MaxPool2d(2, dilation=2, ceil_mode=True),
    nn.AvgPool1d(2, 1), nn.AvgPool2d((2, 3), ceil_mode=True), nn.AvgPool3d(2),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(2, divisor_override=3),
    nn.AdaptiveAvgPool1d(3), nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool3d(2),
    nn.AdaptiveMaxPool1d(2), nn.AdaptiveMaxPool2d((None, 2)), nn.AdaptiveMaxPool3d(1),
    nn.LPPool1d(2, 2), nn.LPPool2d(2, 3, 2), nn.LPPool3d(2, 2),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_bound_modules(module: nn.Module) -> None:
    dims = int(type(module).__name__[-2])
    x = well_apart(2, 2, *(7, 6, 5)[:dims])
    x = x - x.min() + 0.1  # torch's LPPool has no derivative at 0
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    check_rule(applied.rule, module, [x])
    assert base.apply_module(module, (x[0],), {}) is None  # without a batch dimension torch itself is asked


def test_indices_are_torch_s() -> None:
    x = well_apart(2, 3, 7, 6)
    y, indices = MaxPool(2, 3, 2, 1, return_indices=True).forward(x)[0]
    expected = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert torch.equal(y, expected[0])
    assert torch.equal(indices, expected[1])


def test_canary() -> None:
    """Mean pooling that forgets to divide on the way back, and a max that takes the last of equals."""

    class Undivided(MeanPool):
        def backward(self, saved: Any, delta: Any) -> Any:
            return super().backward({**saved, "elements": torch.ones_like(saved["elements"])}, delta)

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Undivided(2, 2), lambda x: F.avg_pool2d(x, 2), [well_apart(1, 1, 4, 4)])

    class Second(MaxPool):
        def choose(self, seen: Tensor) -> tuple[Tensor, Tensor]:
            return seen.max(-1).values, seen.topk(2, -1).indices[..., 1]

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Second(2, 2), lambda x: F.max_pool2d(x, 2), [well_apart(1, 1, 4, 4)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPool(2, 0), "kernel_size: got 0, wanted an integer ≥ 1"),
        (lambda: MeanPool(2, 2, (1, 2, 3)), r"stride: got \(1, 2, 3\)"),
        (lambda: MaxPool(2, 2, padding=-1), "padding: got -1"),
        (lambda: MaxPool(2, 2, padding=2).forward(torch.zeros(1, 1, 4, 4)), "padding: got 2, wanted at most half"),
        (lambda: MaxPool(2, 5).forward(torch.zeros(1, 1, 4, 4)), "kernel_size: got 5, wanted a kernel that fits"),
        (lambda: SumPool(2, 2).forward(torch.zeros(1, 4, 4)), r"x: got \(1, 4, 4\), wanted \(n, channels, 2"),
        (lambda: AdaptiveMeanPool((1, 1)).forward(torch.zeros(1, 4, 4)), r"x: got \(1, 4, 4\)"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "size"), [(2, 2, 0, 1), (3, 2, 0, 2), (4, 3, 1, 1)])
def test_a_window_larger_than_the_map_hangs_over_it(kernel_size: int, stride: int, padding: int, size: int) -> None:
    pool = nn.MaxPool2d(kernel_size, stride, padding, ceil_mode=True)
    check_model(nn.Sequential(pool), torch.randn(2, 3, size, size + 1, dtype=torch.float64), expected_rules=1)


def test_a_window_that_hangs_over_by_a_stride_is_refused() -> None:
    with pytest.raises(ArgumentError, match="kernel_size: got 3, wanted a kernel that fits"):
        MaxPool(2, 3, 2, ceil_mode=True).forward(torch.zeros(1, 1, 1, 1))
