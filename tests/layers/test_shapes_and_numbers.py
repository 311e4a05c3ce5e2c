"""Parameter counts, printed values and constants of the layers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from convscope import layers
from convscope.layers.digit_bitmaps import HEIGHT, WIDTH, digit_bitmaps


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def test_c3_has_sixty_kernels() -> None:
    c3 = layers.TableConv2d(6, 16, 5, table="lenet5_c3")
    assert c3.weight.shape == (60, 5, 5)
    assert parameters(c3) == 1516
    assert [len(row) for row in c3.input_maps()] == [3] * 6 + [4] * 9 + [6]
    assert len(set(c3.input_maps())) == 16
    assert [sum(i in row for row in c3.input_maps()) for i in range(6)] == [10] * 6  # each map of S2 is read ten times


def test_pairs_and_triples() -> None:
    assert layers.TableConv2d(4, None, 3, table="pairs").input_maps() == tuple(itertools.combinations(range(4), 2))
    assert layers.TableConv2d(4, 4, 3, table="triples").input_maps() == tuple(itertools.combinations(range(4), 3))


def test_table_as_matrix_and_as_lists_are_one() -> None:
    lists = layers.connection_table([[0, 2], [1]], 3)
    matrix = layers.connection_table(torch.tensor([[1, 0, 1], [0, 1, 0]]), 3)
    assert torch.equal(lists, matrix)


def test_full_table_equals_torch_convolution() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    table = layers.TableConv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        table.weight.copy_(conv.weight.flatten(0, 1))
        table.get_parameter("bias").copy_(conv.get_parameter("bias"))
    x = torch.randn(2, 3, 5, 6)
    assert torch.equal(table(x), conv(x))


def test_subsampling_counts() -> None:
    assert parameters(layers.Subsample2d(6)) == 12
    assert parameters(layers.Subsample2d(16)) == 32


def test_subsampling_by_hand() -> None:
    layer = layers.Subsample2d(1, 2, activation="linear")
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(-1)
    assert layer(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item() == 4  # ½·10 − 1


def test_scaled_tanh_is_one_at_one() -> None:
    y = layers.ScaledTanh()(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))
    assert y.tolist() == pytest.approx([1, -1, 0], abs=1e-4)


def test_poolings_by_hand() -> None:
    x = torch.tensor([[[[3.0, 4.0, 1.0], [0.0, 0.0, 2.0], [5.0, 6.0, 7.0]]]])
    assert layers.SumPool2d(2, 1)(x).flatten().tolist() == [7, 7, 11, 15]
    assert layers.L2Pool2d(2)(x).flatten().tolist() == [5]
    assert layers.MinPool2d((2, 3), 1)(x).flatten().tolist() == [0, 0]
    assert layers.MedianPool2d(3)(x).item() == 3
    assert layers.MedianPool2d(2, 1)(x).flatten().tolist() == [0, 1, 0, 2]  # the lower of the two middle values


def test_ceil_mode_and_padding_do_not_count() -> None:
    x = torch.full((1, 1, 3, 3), 2.0)
    assert layers.SumPool2d(2, ceil_mode=True)(x).flatten().tolist() == [8, 4, 4, 2]
    assert layers.MedianPool2d(2, 2, 1)(x).flatten().tolist() == [2, 2, 2, 2]
    assert layers.MinPool2d(2, 2, 1)(x).flatten().tolist() == [2, 2, 2, 2]


def test_l2_pooling_of_zeros_has_no_gradient() -> None:
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    layers.L2Pool2d(2)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[[0, 0], [0, 0]]]]


def test_digit_bitmaps_are_ten_different_drawings() -> None:
    codes = digit_bitmaps()
    assert codes.shape == (10, HEIGHT * WIDTH) == (10, 84)
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    apart = [(codes[a] != codes[b]).sum().item() for a, b in itertools.combinations(range(10), 2)]
    assert min(apart) >= 8
    one = codes[1].reshape(HEIGHT, WIDTH)
    assert one[5].tolist() == [-1, -1, -1, 1, 1, -1, -1]  # the stroke of the 1


def test_rbf_is_the_squared_distance() -> None:
    rbf = layers.RBF()
    assert parameters(rbf) == 0
    distances = rbf(digit_bitmaps())
    assert distances.diagonal().tolist() == [0] * 10
    expected = torch.cdist(digit_bitmaps().double(), digit_bitmaps().double()).square()
    assert torch.allclose(distances.double(), expected, atol=1e-9)


def test_rbf_codes_for_other_class_counts_are_fixed() -> None:
    one, other = layers.RBF(84, 26), layers.RBF(84, 26)
    assert torch.equal(one.weight, other.weight)
    apart = (one.weight[:, None] != one.weight[None]).sum(-1) + 84 * torch.eye(26, dtype=torch.int64)
    assert int(apart.min()) >= 20


def test_separable_convolutions_keep_torch_layers() -> None:
    depthwise = layers.depthwise_separable_conv2d(8, 16, 3, padding=1, bias=False)
    assert parameters(depthwise) == 8 * 9 + 8 * 16
    assert depthwise(torch.zeros(1, 8, 7, 5)).shape == (1, 16, 7, 5)
    spatial = layers.spatially_separable_conv2d(8, 16, (3, 5), stride=(2, 1), padding=(1, 2))
    assert parameters(spatial) == 8 * 16 * 3 + 16 * 16 * 5 + 16
    assert spatial(torch.zeros(1, 8, 7, 5)).shape == (1, 16, 4, 5)


def test_rank_one_kernel_is_the_product_of_its_parts() -> None:
    torch.manual_seed(1)
    spatial = layers.spatially_separable_conv2d(1, 1, (3, 5), bias=False).double()
    column, row = spatial.get_parameter("vertical.weight"), spatial.get_parameter("horizontal.weight")
    x = torch.randn(2, 1, 8, 9, dtype=torch.float64)
    dense = nn.functional.conv2d(x, column * row)
    assert torch.allclose(spatial(x), dense, atol=1e-12)


def test_costs_against_counted_layers() -> None:
    costs = {cost.form: cost for cost in layers.convolution_costs(32, 64, 3, (14, 12), groups=4)}
    dense = costs["dense"]
    assert dense.multiply_adds == 32 * 64 * 9 * 14 * 12
    assert costs["4 groups"].multiply_adds * 4 == dense.multiply_adds
    assert costs["depthwise separable"].share(dense) == pytest.approx(1 / 64 + 1 / 9)
    assert costs["depthwise separable"].parameters == parameters(
        layers.depthwise_separable_conv2d(32, 64, 3, bias=False)
    )
    assert costs["spatially separable"].parameters == parameters(
        layers.spatially_separable_conv2d(32, 64, 3, bias=False)
    )
