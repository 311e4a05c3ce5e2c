"""Normalisations against hand-worked numbers, torch under autograd, and finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import check_rule, worst
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.norm import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm


def test_local_response_by_hand() -> None:
    """Three channels 1, 2, 3 at one place; n = 3, k = 2, α/n = 1, β = 1: b = a/(2 + Σ of the neighbours' squares)."""
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    y, _ = LocalResponseNorm(3, 3.0, 1.0, 2.0).forward(x)
    assert y.flatten().tolist() == pytest.approx([1 / 7, 2 / 16, 3 / 15])


def test_local_response_is_the_paper_s_equation() -> None:
    """b_i = a_i/(k + α·Σ a_j²)^β, j from i − n/2 to i + n/2, written out; the paper's α is the rule's α/n."""
    k, n, alpha, beta = 2.0, 5, 1e-4, 0.75
    x = 30 * torch.randn(2, 8, 2, 3, dtype=torch.float64)
    expected = torch.empty_like(x)
    for i in range(8):
        near = range(max(0, i - n // 2), min(8 - 1, i + n // 2) + 1)
        total = sum((x[:, j] ** 2 for j in near), torch.zeros_like(x[:, 0]))
        expected[:, i] = x[:, i] / (k + alpha * total) ** beta
    y, _ = LocalResponseNorm(n, n * alpha, beta, k).forward(x)
    assert worst(y, expected) < 1e-14


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.floats(1e-4, 2), st.sampled_from([0.5, 0.75, 1.0]), st.floats(1, 2))
def test_local_response(size: int, channels: int, alpha: float, beta: float, k: float) -> None:
    x = 2 * torch.randn(2, channels, 3, 2, dtype=torch.float64)
    rule = LocalResponseNorm(size, alpha, beta, k)
    check_rule(rule, lambda x: F.local_response_norm(x, size, alpha, beta, k), [x])


@pytest.mark.parametrize("shape", [(15, 3), (4, 17, 5), (3, 1, 4, 5), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(shape: tuple[int, ...], training: bool) -> None:
    channels = shape[1]
    mean, variance = torch.randn(channels, dtype=torch.float64), torch.rand(channels, dtype=torch.float64) + 0.5
    parameters = {
        "weight": torch.randn(channels, dtype=torch.float64),
        "bias": torch.randn(channels, dtype=torch.float64),
    }

    class WithStatistics(BatchNorm):
        def forward(self, x: Tensor, weight: Any = None, bias: Any = None, *buffers: Any) -> Any:
            return super().forward(x, weight, bias, mean.clone(), variance.clone())

    def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, training)

    x = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    check_rule(WithStatistics(training), reference, [x], parameters)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_moves_running_statistics_as_torch(momentum: float | None, affine: bool) -> None:
    mine = nn.BatchNorm2d(3, momentum=momentum, affine=affine)
    torchs = nn.BatchNorm2d(3, momentum=momentum, affine=affine)
    for _ in range(3):
        x = torch.randn(4, 3, 2, 5)
        applied = base.apply_module(mine, (x,), {})
        assert applied is not None
        with torch.no_grad():
            y, _ = applied.rule.forward(x, **applied.arguments)
        torch.testing.assert_close(y, torchs(x).detach())
    for name, buffer in torchs.named_buffers():
        torch.testing.assert_close(mine.get_buffer(name), buffer, msg=name)


def test_batch_norm_without_running_statistics() -> None:
    module = nn.BatchNorm2d(3, track_running_stats=False, affine=False).double().eval()
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    check_rule(applied.rule, module, [x])


@pytest.mark.parametrize("affine", [True, False])
def test_layer_and_group_norm(affine: bool) -> None:
    x = 3 + 2 * torch.randn(5, 6, 3, 4, dtype=torch.float64)

    def parameters(*shape: int) -> dict[str, Tensor]:
        if not affine:
            return {}
        return {name: torch.randn(shape, dtype=torch.float64) for name in ("weight", "bias")}

    check_rule(LayerNorm(2), lambda x, *p: F.layer_norm(x, (3, 4), *p), [x], parameters(3, 4))
    check_rule(LayerNorm(4), lambda x, *p: F.layer_norm(x, (5, 6, 3, 4), *p), [x], parameters(5, 6, 3, 4))
    for groups in (1, 2, 6):
        check_rule(GroupNorm(groups), lambda x, *p, g=groups: F.group_norm(x, g, *p), [x], parameters(6))
    check_rule(GroupNorm(None), lambda x, *p: F.instance_norm(x, None, None, *p), [x], parameters(6))


MODULES: list[nn.Module] = [
    nn.LocalResponseNorm(3), nn.BatchNorm1d(6), nn.BatchNorm2d(6), nn.LayerNorm([3, 4]), nn.LayerNorm(4, bias=False),
    nn.GroupNorm(3, 6), nn.InstanceNorm2d(6), nn.InstanceNorm2d(6, affine=True),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_bound_modules(module: nn.Module) -> None:
    module = module.double()
    x = torch.randn((5, 6, 3, 4)[: 3 if isinstance(module, nn.BatchNorm1d) else 4], dtype=torch.float64)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    names = [name for name, _ in module.named_parameters()]
    parameters = {name: torch.randn_like(module.get_parameter(name)) for name in names}

    def reference(x: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))
        return y

    check_rule(applied.rule, reference, [x], parameters)
    tracked = nn.InstanceNorm2d(6, track_running_stats=True)
    assert base.apply_module(tracked, (torch.zeros(1, 6, 2, 2),), {}) is None


def test_canary() -> None:
    """α without torch's division by n, and a batch norm whose mean is taken for a constant."""
    x = 30 * torch.randn(2, 5, 2, 2, dtype=torch.float64)
    with pytest.raises(AssertionError, match="forward"):
        check_rule(LocalResponseNorm(5, 5e-4), lambda x: F.local_response_norm(x, 5, 1e-4), [x])

    class Constant(BatchNorm):
        def backward(self, saved: Any, delta: Tensor) -> Any:
            return super().backward({**saved, "constant": True}, delta)

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Constant(), lambda x: F.batch_norm(x, None, None, training=True), [x])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalResponseNorm(0), "size: got 0, wanted a number of channels ≥ 1"),
        (lambda: BatchNorm().forward(torch.zeros(1, 3, 1, 1)), "x: got .*wanted more than one value for each channel"),
        (lambda: GroupNorm(4).forward(torch.zeros(1, 6, 1, 1)), "groups: got 4, wanted a divisor of the 6 channels"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
