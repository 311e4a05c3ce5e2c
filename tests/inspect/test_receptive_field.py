"""Receptive fields against boxes worked by hand, the closed formulas, and the extent of real gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from convscope import create_model
from convscope.errors import ArgumentError, UnknownNameError
from convscope.inspect import ReceptiveFields, receptive_field
from convscope.layers import L2Pool2d, SumPool2d, TableConv2d

Box = tuple[tuple[int, int], ...]


class Branches(nn.Module):
    """Strided stem, ceil-mode pooling, a dilated and a pointwise branch with a shortcut, up-sampling, a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=(2, 3), padding=(3, 1))
        self.pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)
        self.dilated = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.pointwise = nn.Conv2d(4, 2, 1)
        self.up = nn.ConvTranspose2d(6, 3, (4, 3), stride=2, padding=1)
        self.shared = nn.Conv2d(3, 3, 3, padding="same", groups=3)
        self.uneven = nn.AdaptiveAvgPool2d((5, 4))
        self.out = nn.Linear(60, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = torch.cat([self.dilated(x) + x, self.pointwise(x)], dim=1)
        x = self.shared(self.up(x))
        x = x[:, :, 1:] * x.mean(dim=1, keepdim=True)[:, :, :-1]
        x = nn.functional.pad(x, (1, 2, 0, 1))
        x = self.uneven(x)
        result: torch.Tensor = self.out(torch.flatten(x, 1))
        return result


def gradient_box(model: nn.Module, layer: str, shape: tuple[int, ...], unit: tuple[int, ...]) -> Box:
    """The box of pixels with a gradient, when every weight is positive and nothing can cancel."""
    model = copy.deepcopy(model).double().eval()
    for parameter in model.parameters():
        parameter.data = torch.rand_like(parameter) + 0.5
    kept: list[torch.Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda module, given, result: kept.append(result))
    x = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    model(x)
    value = kept[0][0].sum(0)[unit] if kept[0].dim() == 4 else kept[0][0][unit]
    (gradient,) = torch.autograd.grad(value, x)
    seen = gradient[0].abs().sum(0) > 0
    if not seen.any():
        return ((0, 0), (0, 0))
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    return ((int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1))


@pytest.mark.parametrize("layer", ["stem", "pool", "dilated", "pointwise", "up", "shared", "uneven"])
def test_boxes_are_the_extent_of_positive_gradients(layer: str) -> None:
    shape = (3, 37, 52)
    model = Branches()
    fields = ReceptiveFields(model, shape)
    height, width = fields[layer].output_shape[1:]
    for unit in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 3)]:
        assert fields[layer, unit].box == gradient_box(model, layer, shape, unit), unit


def test_a_box_one_pixel_off_would_be_noticed() -> None:
    """The canary of the test above: another padding gives another box."""
    model = Branches()
    before = gradient_box(model, "stem", (3, 37, 52), (5, 5))
    model.stem.padding = (2, 1)
    assert gradient_box(model, "stem", (3, 37, 52), (5, 5)) != before


def test_the_whole_picture_is_seen_behind_a_linear_layer() -> None:
    """… but for the last column: 16 windows of 7, 3 apart, from −1 on end at 50."""
    field = receptive_field(Branches(), "out", (3, 37, 52))
    assert field.box == ((0, 37), (0, 51))
    assert field.jump is None
    assert field.start is None


def test_lenet5_by_hand() -> None:
    """C1 5×5 (padding 2), S2 2/2, C3 5×5, S4 2/2: r = 5, 6, 14, 16 and jumps 1, 2, 2, 4."""
    fields = ReceptiveFields(create_model("lenet5"))
    layers = ["c1", "s2", "c3", "s4"]
    assert [fields[name].size for name in layers] == [(5, 5), (6, 6), (14, 14), (16, 16)]
    assert [fields[name].jump for name in layers] == [(1, 1), (2, 2), (2, 2), (4, 4)]
    assert fields["c1"].start == (0, 0)
    assert fields["s2"].start == (0.5, 0.5)
    assert fields["c3", (0, 0)].box == ((0, 12), (0, 12))
    assert fields["c3", (0, 0)].padded_box == ((-2, 12), (-2, 12))
    assert fields["c3", (0, 0)].clipped
    assert not fields["c3", (5, 5)].clipped
    assert fields["s4", (4, 4)].box == ((14, 28), (14, 28))


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 195), ("mobilenet_v1", 315), ("resnet18", 435), ("inception_v3", 1311)]
)
def test_published_receptive_fields(name: str, size: int) -> None:
    """Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks (2019), table 1."""
    fields = ReceptiveFields(create_model(name))
    last = [fields[layer] for layer in fields.layers() if fields[layer].jump is not None][-1]
    assert last.size == (size, size)
    assert last.jump == (32, 32)


def test_unit_of_a_flattened_map_keeps_its_own_box() -> None:
    """Unit 7 of 16×5×5 flattened is map 0, row 1, column 2."""
    fields = ReceptiveFields(create_model("lenet5"))
    assert fields["flatten", (7,)].box == fields["s4", (1, 2)].box == ((2, 18), (6, 22))


def test_slices_cut_the_part_that_matters() -> None:
    """Changing every pixel outside the box leaves the unit as it was, changing those inside does not."""
    model = create_model("lenet5").double().eval()
    field = receptive_field(model, "c3", position=(4, 7))
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64)
    part = torch.zeros_like(x)
    rows, columns = field.slices
    part[..., rows, columns] = x[..., rows, columns]
    front = nn.Sequential(*list(model.children())[:4])
    assert torch.equal(front(x)[..., 4, 7], front(part)[..., 4, 7])
    part[..., field.box[0][0], field.box[1][0]] += 1
    assert not torch.equal(front(x)[..., 4, 7], front(part)[..., 4, 7])


def test_padding_modes_that_read_real_pixels() -> None:
    circular = receptive_field(
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "0", (1, 8, 9), (0, 4)
    )
    assert circular.box == ((0, 8), (3, 6))
    replicate = receptive_field(
        nn.Sequential(nn.Conv2d(1, 1, 5, padding=2, padding_mode="replicate")), "0", (1, 8, 9), (0, 8)
    )
    assert replicate.box == ((0, 3), (6, 9))
    reflect = receptive_field(
        nn.Sequential(nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect")), "0", (1, 8, 9), (7, 0)
    )
    assert reflect.box == ((5, 8), (0, 3))


def test_a_unit_that_sees_padding_only() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, padding=2))
    field = receptive_field(model, "0", (1, 4, 5), (0, 3))
    assert field.box == ((0, 0), (1, 2))
    assert "padding only" in str(field)


def test_one_and_three_dimensions() -> None:
    line = receptive_field(nn.Sequential(nn.Conv1d(2, 3, 5, stride=2), nn.MaxPool1d(3)), "1", (2, 40), (2,))
    assert (line.size, line.jump, line.box) == ((9,), (6,), ((12, 21),))
    solid = receptive_field(nn.Sequential(nn.Conv3d(1, 2, (1, 3, 5), padding=(0, 1, 2))), "0", (1, 4, 6, 7), (3, 0, 6))
    assert solid.size == (1, 3, 5)
    assert solid.box == ((3, 4), (0, 2), (4, 7))


def test_layers_of_our_own() -> None:
    model = nn.Sequential(
        TableConv2d(3, None, 3, table="pairs"), SumPool2d(2), L2Pool2d(3, stride=1, padding=1), nn.ReLU()
    )
    field = receptive_field(model, "3", (3, 20, 14), (4, 2))
    assert (field.size, field.jump) == ((8, 8), (2, 2))
    assert field.box == ((6, 14), (2, 10))


def test_a_layer_called_twice_has_two_fields() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv(self.conv(x))
            return result

    fields = ReceptiveFields(Twice(), (1, 9, 9))
    assert fields["conv"].size == (3, 3)
    assert fields["conv:2"].size == (5, 5)


def test_the_model_is_left_in_its_mode() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receptive_field(model, "2", (1, 9, 9))
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_unknown_layer_offers_the_close_match() -> None:
    with pytest.raises(UnknownNameError, match=r"layer: got 'c33', wanted one of .*Did you mean 'c3'"):
        receptive_field(create_model("lenet5"), "c33")


def test_impossible_position() -> None:
    with pytest.raises(ArgumentError, match=r"position: got \(10, 0\), wanted 2 indices .* 0…9, 0…9"):
        receptive_field(create_model("lenet5"), "c3", position=(10, 0))


def test_shape_is_needed_without_a_description() -> None:
    with pytest.raises(ArgumentError, match=r"input_shape: got None.*carries no description"):
        receptive_field(nn.Conv2d(1, 1, 3), "model")


def test_wrong_shape_says_what_the_model_said() -> None:
    with pytest.raises(ArgumentError, match=r"input_shape: got \(2, 28, 28\), wanted a shape this model takes"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3)), "0", (2, 28, 28))
    with pytest.raises(ArgumentError, match=r"input_shape: got .* wanted 3 numbers"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3)), "0", (28, 28))


class TwoPictures(nn.Module):
    """Two pictures, of which the second is seen through a wider kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.joined = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 5, padding=1), nn.Conv2d(2, 1, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.joined(self.one(x) + self.other(y))
        return answer


def test_fields_lie_in_the_input_that_is_named() -> None:
    shapes = ((1, 12, 12), (1, 12, 12))
    one, other = (receptive_field(TwoPictures(), "joined", shapes, (4, 4), of=number) for number in (0, 1))
    assert (one.box, one.size) == (((4, 7), (4, 7)), (3, 3))
    assert (other.box, other.size) == (((3, 8), (3, 8)), (5, 5))
    for wrong in (None, 2, -1):
        with pytest.raises(ArgumentError, match=r"of: got .*, wanted the number of the input, 0 … 1"):
            receptive_field(TwoPictures(), "joined", shapes, of=wrong)


class LowerHalf(nn.Module):
    """The second of two halves, cut along the rows, goes on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.first, self.last = dim, nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, lower = self.first(x).chunk(2, dim=self.dim)
        answer: torch.Tensor = self.last(lower)
        return answer


@pytest.mark.parametrize("dim", [2, 3, -1])
def test_a_part_cut_off_lies_where_it_was_in_the_picture(dim: int) -> None:
    model = LowerHalf(dim)
    field = receptive_field(model, "last", (1, 14, 18), position=(2, 3))
    assert field.box == gradient_box(model, "last", (1, 14, 18), (2, 3))
    assert field.box == (((7, 12), (1, 6)) if dim == 2 else ((0, 5), (10, 15)))
