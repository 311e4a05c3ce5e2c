"""Transposed convolution against torch, against the definition, and as the adjoint of convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.oracles import check_rule, worst
from torch import nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.conv import Conv
from convscope.rules.conv_transpose import ConvTranspose


def test_hand_worked() -> None:
    """Each input pixel paints the kernel, times its value, at stride 2."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    k = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    y, _ = ConvTranspose(2, 2).forward(x, k)
    assert y[0, 0].tolist() == [[1, 10, 2, 20], [100, 1000, 200, 2000], [3, 30, 4, 40], [300, 3000, 400, 4000]]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_against_autograd_and_finite_differences(data: st.DataObject) -> None:
    dims, groups = data.draw(st.sampled_from([1, 2, 2, 3])), data.draw(st.sampled_from([1, 1, 2]))
    drawn: dict[str, tuple[int, ...]] = {}
    for name, low, high in (("kernel", 1, 3), ("stride", 1, 3), ("dilation", 1, 2), ("padding", 0, 2), ("size", 1, 4)):
        drawn[name] = tuple(data.draw(st.integers(low, high), label=name) for _ in range(dims))
    limits = [max(s, d) - 1 for s, d in zip(drawn["stride"], drawn["dilation"], strict=True)]
    extra = tuple(data.draw(st.integers(0, limit), label="output_padding") for limit in limits)
    padded = [
        (n - 1) * s + d * (k - 1) + e + 1 - 2 * p
        for n, s, d, k, e, p in zip(
            drawn["size"], drawn["stride"], drawn["dilation"], drawn["kernel"], extra, drawn["padding"], strict=True
        )
    ]
    assume(min(padded) > 0)
    x = torch.randn(2, 2 * groups, *drawn["size"], dtype=torch.float64)
    parameters = {"weight": torch.randn(2 * groups, 3, *drawn["kernel"], dtype=torch.float64)}
    if data.draw(st.booleans()):
        parameters["bias"] = torch.randn(3 * groups, dtype=torch.float64)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]

    def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return function(x, weight, bias, drawn["stride"], drawn["padding"], extra, groups, drawn["dilation"])

    rule = ConvTranspose(dims, drawn["stride"], drawn["padding"], extra, drawn["dilation"], groups)
    check_rule(rule, reference, [x], parameters)


def test_is_the_adjoint_of_convolution() -> None:
    """⟨conv(x), y⟩ = ⟨x, transposed(y)⟩ for the same kernels."""
    k = torch.randn(4, 3, 3, 2, dtype=torch.float64)
    x, y = torch.randn(2, 3, 9, 8, dtype=torch.float64), torch.randn(2, 4, 4, 4, dtype=torch.float64)
    forward, _ = Conv(2, 2).forward(x, k)
    back, _ = ConvTranspose(2, 2).forward(y, k)
    assert float((forward * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)


@pytest.mark.parametrize("module", [nn.ConvTranspose1d(2, 3, 3, 2), nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2)])
def test_bound_modules(module: Any) -> None:
    x = torch.randn(2, module.in_channels, *(5, 4)[: len(module.kernel_size)])
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    y, _ = applied.rule.forward(x, **applied.arguments)
    assert worst(y.detach(), module(x).detach()) < 1e-5
    assert base.apply_module(module, (x, [11] * (x.ndim - 2)), {}) is None  # output_size is torch's own affair


def test_canary() -> None:
    x, k = torch.randn(1, 2, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="forward"):
        check_rule(ConvTranspose(2), lambda x, weight: F.conv_transpose2d(x, weight.flip(2)), [x], {"weight": k})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvTranspose(2, stride=0), "stride: got 0"),
        (lambda: ConvTranspose(2, 2, output_padding=2), "output_padding: got 2, wanted less than the stride 2"),
        (lambda: ConvTranspose(2).forward(torch.zeros(1, 3, 2, 2), torch.zeros(2, 1, 2, 2)), r"x: got \(1, 3, 2, 2\)"),
        (
            lambda: ConvTranspose(2, padding=2).forward(torch.zeros(1, 2, 2, 2), torch.zeros(2, 1, 3, 3)),
            r"padding: got \(2, 2\), wanted less than half of the \(4, 4\) positions",
        ),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
