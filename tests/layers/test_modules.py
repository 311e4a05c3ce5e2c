"""Every layer of our own: its rule against its torch operations, and that against an independent answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.oracles import conv_by_loops, slope, worst
from torch import nn

from convscope import layers
from convscope.rules import tape

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "table_pairs": (
        lambda: layers.TableConv2d(4, None, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), table="pairs"),
        (3, 4, 9, 8),
    ),
    "table_flipped": (lambda: layers.TableConv2d(6, 16, 5, table="lenet5_c3", flip_kernel=True), (1, 6, 9, 7)),
    "true_convolution": (
        lambda: layers.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, flip_kernel=True),
        (3, 4, 9, 8),
    ),
    "plain_convolution": (lambda: layers.Conv2d(3, 5, 3, dilation=2, bias=False), (2, 3, 9, 8)),
    "combined": (
        lambda: layers.CombinedConv2d(3, 5, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)),
        (3, 3, 9, 7),
    ),
    "combined_without_bias": (lambda: layers.CombinedConv2d(17, 2, 3, bias=False), (1, 17, 5, 6)),
    "locally_connected": (
        lambda: layers.LocallyConnected2d(3, 4, (3, 2), (9, 7), stride=(2, 1), padding=(1, 0)),
        (3, 3, 9, 7),
    ),
    "locally_shared": (lambda: layers.LocallySharedConv2d(3, 4, 3, (9, 8), region_size=(2, 3)), (3, 3, 9, 8)),
    "locally_shared_without_bias": (
        lambda: layers.LocallySharedConv2d(2, 3, 2, (5, 6), region_size=2, bias=False),
        (1, 2, 5, 6),
    ),
    "subsample_scaled_tanh": (lambda: layers.Subsample2d(3), (2, 3, 8, 6)),
    "subsample_overlapping": (lambda: layers.Subsample2d(3, (2, 3), (1, 2), "sigmoid"), (2, 3, 7, 8)),
    "sum_pool": (lambda: layers.SumPool2d(3, 2, 1, 2, ceil_mode=True), (2, 3, 8, 7)),
    "l2_pool": (lambda: layers.L2Pool2d((3, 2), 2, 1, ceil_mode=True), (2, 3, 8, 7)),
    "min_pool": (lambda: layers.MinPool2d(3, 2, 1, 2, ceil_mode=True), (2, 3, 8, 7)),
    "median_pool": (lambda: layers.MedianPool2d((2, 3), 2, 1, ceil_mode=True), (2, 3, 8, 7)),
    "rbf": (lambda: layers.RBF(), (3, 84)),
    "scaled_tanh": (lambda: layers.ScaledTanh(), (3, 4)),
    "scaled_sigmoid": (lambda: layers.ScaledSigmoid(2.5), (3, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_rule_equals_autograd(case: str) -> None:
    torch.manual_seed(len(case))
    make, shape = CASES[case]
    model = nn.Sequential(make()).double()
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    y = model(x)
    delta = torch.randn_like(y)
    y.backward(delta)
    ran = tape.forward(model, x.detach())
    back = ran.backward(delta)
    assert x.grad is not None
    assert worst(ran.output, y.detach()) < 1e-12
    (delta_x,) = back.inputs
    assert delta_x is not None
    assert worst(delta_x, x.grad) < 1e-9
    assert set(back.gradients) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert worst(back.gradients[name], parameter.grad) < 1e-9
    assert worst(1.001 * delta_x, x.grad) > 1e-9  # the comparison can fail


@pytest.mark.parametrize("case", CASES)
def test_rule_is_bound_not_local_autograd(case: str) -> None:
    from convscope.rules import base

    make, shape = CASES[case]
    module = make()
    assert base.apply_module(module, (torch.zeros(shape),), {}) is not None


@pytest.mark.parametrize("case", [case for case in CASES if "pool" not in case or "l2" in case or "sum" in case])
def test_input_gradient_by_finite_differences(case: str) -> None:
    torch.manual_seed(3)
    make, shape = CASES[case]
    module = make().double()
    x, direction = (torch.randn(*shape, dtype=torch.float64) for _ in range(2))
    weights = torch.randn_like(module(x))
    (delta_x,) = tape.forward(nn.Sequential(module), x).backward(weights).inputs
    assert delta_x is not None
    measured = slope(lambda at: (module(at) * weights).sum().detach(), x, direction)
    assert float((delta_x * direction).sum()) == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_table_convolution_by_loops(flip: bool) -> None:
    torch.manual_seed(5)
    layer = layers.TableConv2d(5, None, (3, 2), (2, 1), (1, 0), (1, 2), table="triples", flip_kernel=flip).double()
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64)
    expected = conv_by_loops(
        x.numpy(),
        layer.dense_weight().detach().numpy(),
        layer.get_parameter("bias").detach().numpy(),
        (2, 1),
        (1, 0),
        (1, 2),
        table=layer.input_maps(),
        true_convolution=flip,
    )
    assert worst(layer(x).detach(), torch.from_numpy(expected)) < 1e-12


def test_locally_shared_against_one_convolution_a_region() -> None:
    torch.manual_seed(6)
    layer = layers.LocallySharedConv2d(2, 3, 3, (8, 7), region_size=(2, 3), padding=1).double()
    x = torch.randn(2, 2, 8, 7, dtype=torch.float64)
    y = layer(x)
    assert layer.regions == (4, 3)
    bias = layer.get_parameter("bias")
    for row in range(4):
        for column in range(3):
            whole = nn.functional.conv2d(x, layer.weight[row, column], bias[:, row, column], padding=1)
            place = (..., slice(2 * row, 2 * row + 2), slice(3 * column, 3 * column + 3))
            assert worst(y[place].detach(), whole[place].detach()) < 1e-12


def test_locally_connected_equals_convolution_when_its_kernels_agree() -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    local = layers.LocallyConnected2d(3, 4, 3, (9, 8), stride=2, padding=1).double()
    with torch.no_grad():
        local.weight.copy_(conv.weight.expand_as(local.weight))
        local.get_parameter("bias").copy_(conv.get_parameter("bias")[:, None, None].expand(4, *local.regions))
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    assert worst(local(x).detach(), conv(x).detach()) < 1e-12


def test_combination_sums_to_one_and_equals_its_formula() -> None:
    layer = layers.CombinedConv2d(3, 4, 3).double()
    alpha = layer.alpha().detach()
    assert torch.allclose(alpha.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-12)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    kernels = alpha[:, :, None, None] * layer.weight[None]  # the same as one dense convolution with α·k
    expected = nn.functional.conv2d(x, kernels, layer.bias)
    assert worst(layer(x).detach(), expected.detach()) < 1e-12


def test_sparsity_penalty_makes_the_combination_sparse() -> None:
    """A teacher uses one input map for each output map; with the penalty α nearly finds that, without it does not."""
    found: dict[float, float] = {}
    for sparsity in (0.0, 0.3):
        torch.manual_seed(0)
        layer = layers.CombinedConv2d(4, 3, 3, bias=False, sparsity=sparsity)
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
        x = torch.randn(64, 4, 6, 6)
        with torch.no_grad():
            target = nn.functional.conv2d(x[:, :3], torch.randn(3, 1, 3, 3), groups=3)
        for _ in range(300):
            cost = (layer(x) - target).square().mean()
            added = layers.penalty(layers.penalised(layer))
            assert (added is None) == (sparsity == 0)
            cost = cost if added is None else cost + added
            optimiser.zero_grad()
            cost.backward()
            optimiser.step()
        alpha = layer.alpha().detach()
        found[sparsity] = float(-(alpha * alpha.log()).sum(1).mean())
    assert found[0.3] < 0.1
    assert found[0.3] < found[0.0] - 0.1
