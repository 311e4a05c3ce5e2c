"""Counts against published figures, torch's own operation counter, and connections counted one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convscope import create_model
from convscope.errors import ArgumentError, UnknownNameError
from convscope.inspect import count, receptive_field
from convscope.layers import RBF, CombinedConv2d, LocallyConnected2d, TableConv2d


def test_edge_detection_of_goodfellow_2016() -> None:
    """Goodfellow et al. 2016, section 9.2: subtracting the left neighbour in a 320×280 picture.

    319 × 280 × 3 = 267,960 operations as a convolution with two elements; as a matrix 320·280·319·280, over eight
    billion elements and over sixteen billion operations, of which 2 · 319 · 280 = 178,640 are not zero.
    """
    layer = count(nn.Sequential(nn.Conv2d(1, 1, (1, 2), bias=False)), (1, 280, 320))[0]
    assert layer.operations == 267_960
    assert layer.dense.elements == 320 * 280 * 319 * 280 == 8_003_072_000
    assert layer.dense.operations > 16_000_000_000
    assert layer.dense.operations == 319 * 280 * (2 * 320 * 280 - 1)
    assert layer.dense.nonzero == layer.multiply_adds == 178_640
    assert layer.dense.parameters == 2
    assert layer.dense.operations // layer.operations == 59_733  # "about 60,000 times"


def test_lenet5_1998_by_the_paper() -> None:
    """LeCun et al. 1998, section II.B: trainable parameters and connections of every layer."""
    counts = count(create_model("lenet5_1998"))
    assert [counts[name].parameters for name in ("c1", "s2", "c3", "s4", "c5", "f6")] == [
        156,
        12,
        1516,
        32,
        48120,
        10164,
    ]
    assert counts.parameters == counts.trainable == 60_000
    # the paper counts the bias as a connection: 122,304 = 117,600 + 4,704 and 151,600 = 150,000 + 1,600
    assert counts["c1"].dense.nonzero + counts["c1"].activations == 122_304
    assert counts["c3"].dense.nonzero + counts["c3"].activations == 151_600


def connections(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Non-zero elements of the layer's matrix, by its Jacobian at positive weights."""
    module = copy.deepcopy(module).double()
    for parameter in module.parameters():
        parameter.data = torch.rand_like(parameter) + 0.5
    jacobian = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        module, torch.rand(1, *shape, dtype=torch.float64)
    )
    return int((jacobian != 0).sum())


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), (3, 5, 7)),
        (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=2), (4, 9, 6)),
        (nn.Conv2d(3, 3, 3, groups=3, bias=False), (3, 6, 5)),
        (nn.Conv1d(2, 3, 5, stride=2, padding=3), (2, 11)),
        (nn.Conv3d(1, 2, (1, 2, 3), padding=(0, 1, 1)), (1, 3, 4, 5)),
        (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), (2, 3, 4)),
        (TableConv2d(3, None, 3, table="pairs"), (3, 6, 5)),
        (CombinedConv2d(2, 3, 3, padding=1), (2, 5, 4)),
        (LocallyConnected2d(2, 3, 3, input_size=(5, 6)), (2, 5, 6)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_connections_are_those_of_the_jacobian(module: nn.Module, shape: tuple[int, ...]) -> None:
    layer = count(nn.Sequential(module), shape)[0]
    assert layer.dense is not None
    assert layer.dense.nonzero == connections(module, shape)
    assert layer.dense.elements == torch.Size(shape).numel() * layer.activations


def test_another_padding_would_be_noticed() -> None:
    """The canary of the test above."""
    assert connections(nn.Conv2d(1, 1, 3, padding=1), (1, 5, 5)) != connections(nn.Conv2d(1, 1, 3), (1, 5, 5))


class Everything(nn.Module):
    """Weighted layers and products of activations, as modules and as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.kernel = nn.Parameter(torch.rand(5, 6, 3, 3))
        self.out = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = self.up(self.pointwise(self.depthwise(x)) + 1)
        x = F.conv2d(x, self.kernel, padding=1).flatten(2)
        x = x @ x.transpose(1, 2)
        result: torch.Tensor = self.out(x)
        return result


def test_multiply_adds_are_half_of_what_torch_counts() -> None:
    model, shape = Everything().eval(), (3, 17, 22)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    counts = count(model, shape)
    assert 2 * counts.multiply_adds == counter.get_total_flops()
    assert counts["conv2d"].multiply_adds > 0
    assert counts["matmul"].multiply_adds == 5 * 5 * 18 * 22


def test_parameters_add_up_and_shared_ones_count_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.spare = nn.Linear(7, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv(self.conv(x))
            return result

    model = Shared()
    model.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    counts = count(model, (2, 5, 5))
    assert [layer.parameters for layer in counts] == [38, 0]
    assert [layer.name for layer in counts] == ["conv", "conv:2"]
    assert (counts.parameters, counts.trainable, counts.uncalled) == (38 + 24, 60, 24)
    assert "24 of the parameters belong to layers that only training calls" in str(counts)


def test_operations_by_hand() -> None:
    """K products: K multiplications, K − 1 additions, one for the bias; pooling k − 1 comparisons or k operations."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 5), RBF(5, 2)
    )
    counts = count(model, (2, 6, 6))
    assert [layer.operations for layer in counts] == [48 * 36, 48, 12 * 3, 3 * 4, 0, 5 * 6, 2 * 5 * 3 - 2]
    assert [layer.activations for layer in counts] == [48, 48, 12, 3, 3, 5, 2]
    assert counts.operations == sum(layer.operations for layer in counts)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_and_recurrent_layers(batch_first: bool) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention
            self.lstm = nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=batch_first)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.attention(x, x, x)[0]
            result: torch.Tensor = self.lstm(x)[0]
            return result

    counts = count(Sequence(), (7, 8))
    assert counts["attention"].multiply_adds == 4 * 7 * 8 * 8 + 2 * 7 * 7 * 8
    assert counts["lstm"].multiply_adds == 7 * 2 * 4 * 5 * ((8 + 5) + (10 + 5))


def test_the_table_names_every_layer_and_the_totals() -> None:
    text = str(count(create_model("lenet5")))
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "multiply-adds", "operations", "activations"]
    assert lines[2].split() == ["c1", "Conv2d", "6×28×28", "156", "117,600", "235,200", "4,704"]
    assert lines[-1].split()[:5] == ["total", "1×28×28", "in", "61,706", "416,520"]


def test_look_up_by_name_and_number() -> None:
    counts = count(create_model("lenet5"))
    assert counts["c3"] is counts[3]
    with pytest.raises(UnknownNameError, match="Did you mean 'c3'"):
        counts["c33"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 1, 28, 28)])
def test_a_leading_batch_is_understood(shape: tuple[int, ...]) -> None:
    assert count(create_model("lenet5"), shape).multiply_adds == 416_520


@pytest.mark.parametrize("shape", [(), (1, 0, 28), (1, 28.0, 28)])
def test_impossible_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"input_shape: got .* wanted .channels, height, width."):
        count(create_model("lenet5"), shape)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 1814),
        ("mobilenet_v2", 301),
        ("squeezenet1_0", 819),
        ("shufflenet_v2_x1_0", 145),
        ("googlenet", 1498),
    ],
)
def test_published_multiply_adds(name: str, millions: int) -> None:
    """As torchvision's documentation lists them, for one picture of 3×224×224, auxiliary classifiers left out."""
    assert round(count(create_model(name)).multiply_adds / 1e6) == millions


@pytest.mark.parametrize(("name", "size"), [("lenet5", 61_706), ("mcdnn_column", 76_040)])
def test_parameters_of_the_papers(name: str, size: int) -> None:
    assert count(create_model(name)).parameters == size


class TwoInputs(nn.Module):
    """A picture and a row of numbers, each through its own layers, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.wide, self.head = nn.Conv2d(3, 4, 3), nn.Linear(5, 6), nn.Linear(10, 2)

    def forward(self, picture: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.conv(picture).mean((2, 3)), self.wide(row)], 1)
        answer: torch.Tensor = self.head(joined)
        return answer


def test_several_inputs_are_given_by_several_shapes() -> None:
    counts = count(TwoInputs(), ((3, 8, 9), (5,)))
    assert counts.multiply_adds == 4 * 3 * 9 * 6 * 7 + 5 * 6 + 10 * 2
    assert counts["wide"].input_shapes == ((5,),)
    assert counts.input_shape == ((3, 8, 9), (5,))
    assert "3×8×9 and 5 in" in str(counts)
    with pytest.raises(ArgumentError, match=r"input_shape: got \(\(3, 8, 0\), \(5,\)\), wanted a shape of integers"):
        count(TwoInputs(), ((3, 8, 0), (5,)))
    with pytest.raises(ArgumentError, match="input_shape: got .*wanted shapes it takes"):
        count(TwoInputs(), ((3, 8, 9), (6,)))


class Rolled(nn.Module):
    """Calls a function that copies the list it is given, which a tuple has no method for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.conv(shifted(self.conv(x), [1, 1]))
        return answer


def shifted(x: torch.Tensor, by: list[int]) -> torch.Tensor:
    return torch.roll(x, by.copy(), (2, 3))


torch.fx.wrap("shifted")


def test_functions_get_the_lists_that_the_model_gives() -> None:
    assert count(Rolled(), (2, 5, 6)).multiply_adds == 2 * 2 * 2 * 9 * 5 * 6
    assert receptive_field(Rolled(), "conv:2", (2, 5, 6), position=(2, 3)).box == ((0, 4), (0, 5))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_by_hand(kind: Any, gates: int, bidirectional: bool) -> None:
    layer = kind(5, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    expected = 7 * directions * gates * 6 * ((5 + 6) + (6 * directions + 6))
    assert count(nn.Sequential(layer), (7, 5)).multiply_adds == expected


class LaidIntoTheBatch(nn.Module):
    """Two crops of a picture go through the same layers as a batch of two."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        kinds = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d)}[dimensions]
        self.down, self.up = kinds[0](2, 3, 3, stride=2), kinds[1](3, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.up(self.down(torch.cat([x[..., 1:], x[..., :-1]])))
        return answer


class WithoutBatch(nn.Module):
    """Layers that are given one picture without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(2, 3, 3), nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.pool(self.conv(each)) for each in x.unbind()])


@pytest.mark.parametrize(
    ("model", "shape"),
    [(LaidIntoTheBatch(1), (2, 12)), (LaidIntoTheBatch(2), (2, 7, 12)), (WithoutBatch(), (2, 9, 8))],
    ids=["1d", "2d", "none"],
)
def test_what_the_model_lays_into_the_batch_is_counted(model: nn.Module, shape: tuple[int, ...]) -> None:
    counts = count(model, shape)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(1, *shape))
    assert 2 * counts.multiply_adds == counter.get_total_flops()
    name = "conv" if isinstance(model, WithoutBatch) else "down"
    assert counts[name].dense.nonzero == counts[name].multiply_adds
