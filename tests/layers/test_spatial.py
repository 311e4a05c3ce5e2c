"""The spatial transformer: the identity at the start, its gradients, its parts in a trace, its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import worst
from torch import Tensor, nn

from convscope import load, save, trace
from convscope.data import load_dataset
from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers import SpatialTransformer, initialise
from convscope.models import create_model, portable
from convscope.models.fcn import bilinear_kernel
from convscope.rules import tape

STEPS = 400


def looking(**options: object) -> SpatialTransformer:
    torch.manual_seed(0)
    localisation = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 5 * 7, 4), nn.Tanh())
    return SpatialTransformer(localisation, 4, **options).double()  # type: ignore[arg-type]


def picture() -> Tensor:
    return torch.randn(3, 2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_at_the_start_it_shows_what_is_there() -> None:
    x = picture()
    assert worst(looking()(x).detach(), x) < 1e-12
    half = looking(output_size=(4, 5), align_corners=True)(x).detach()
    wanted = F.interpolate(x, (4, 5), mode="bilinear", align_corners=True)
    assert worst(half, wanted) < 1e-12


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_it_goes_back_by_rules_as_autograd_does(padding_mode: str, align_corners: bool) -> None:
    layer = looking(output_size=(4, 6), padding_mode=padding_mode, align_corners=align_corners)
    with torch.no_grad():
        layer.theta.weight.normal_()
    model, x = nn.Sequential(layer), picture().requires_grad_()
    ran = tape.forward(model, x.detach())
    assert [step.rule.kind for step in ran][-2:] == ["sampling"] * 2
    y = model(x)
    assert y.shape == (3, 2, 4, 6)
    delta = torch.randn_like(y)
    wanted = torch.autograd.grad(y, [x, *model.parameters()], delta)
    back = ran.backward(delta)
    found = [back.inputs[0], *(back.gradients[name] for name, _ in model.named_parameters())]
    assert worst(ran.output, y.detach()) < 1e-12
    for one, other in zip(found, wanted, strict=True):
        assert one is not None
        assert other.any()
        assert worst(one, other) < 1e-9
        assert worst(1.0001 * one, other) > 1e-9


def test_its_parts_are_seen_one_by_one() -> None:
    model = create_model("stn_lenet").eval()
    names = [record.name for record in trace(model, torch.zeros(1, 1, 28, 28), 3)]
    assert {"transformer.localisation.1", "transformer.theta", "c1"} <= set(names)
    assert any("affine_grid" in name for name in names)
    assert any("grid_sample" in name for name in names)


def test_it_goes_through_a_file_and_a_description(tmp_path: Path) -> None:
    model = nn.Sequential(looking(output_size=(4, 6)).float()).eval()
    x = picture().float()
    again = load(save(model, tmp_path / "own.safetensors", input_shape=(2, 7, 9))).eval()
    assert torch.equal(again(x), model(x))
    rebuilt = portable.build(json.loads(json.dumps(portable.describe(model, [x])))).eval()
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt(x), model(x))


def test_it_learns_to_look_where_it_should() -> None:
    """The bright spot is to be brought to the middle, though it is shown anywhere."""
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    line = torch.arange(12.0)
    at = 3 + 6 * torch.rand(64, 2, generator=chance)
    spots = torch.exp(-((line - at[:, :1]) ** 2)[:, None, :, None] / 6) * torch.exp(
        -((line - at[:, 1:]) ** 2)[:, None, None, :] / 6
    )
    middle = torch.exp(-((line - 5.5) ** 2)[:, None] / 6) * torch.exp(-((line - 5.5) ** 2)[None] / 6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.Tanh())
    layer = SpatialTransformer(net, 16)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)

    def step() -> float:
        value = (layer(spots) - middle).square().mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return float(value.detach())

    losses = [step() for _ in range(150)]
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("align_corners", [False, True])
def test_it_begins_at_the_centre_of_gravity_and_zoomed(align_corners: bool) -> None:
    """All shares at one of 3 × 4 parts of a picture: that part's middle is what is looked at, half of it enlarged."""
    layer = SpatialTransformer(nn.Flatten(), 12, zoom=0.5, shares=(3, 4), align_corners=align_corners)
    for k in range(12):
        theta = layer.where(torch.eye(12)[k][None])[0]
        down, across = (k // 4 + 0.5) / 3 * 2 - 1, (k % 4 + 0.5) / 4 * 2 - 1
        torch.testing.assert_close(theta, torch.tensor([[0.5, 0, across], [0, 0.5, down]]))
    middle = layer.where(torch.full((1, 12), 1 / 12))[0]
    torch.testing.assert_close(middle, torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]), rtol=0, atol=1e-6)


def test_cut_to_the_middle_at_the_start() -> None:
    """Zoom 1/2 with half the size: the middle pixels themselves."""
    layer = SpatialTransformer(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), 3, output_size=6, zoom=0.5)
    x = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), x[:, :, 3:9, 3:9], rtol=1e-5, atol=1e-5)


def cluttered(images: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Digits of 16×16 anywhere in 40×40 among eight pieces of 5×5 of others; the digits' middles, ±1 at the edges."""
    count = len(images)
    canvas = torch.zeros(count, 1, 40, 40)
    at = torch.randint(0, 25, (count, 2), generator=chance)
    for k, (row, column) in enumerate(at.tolist()):
        canvas[k, :, row : row + 16, column : column + 16] = images[k]
    drawn = torch.randint(0, 36, (count, 8, 2), generator=chance)
    cut = torch.randint(0, 12, (count, 8, 2), generator=chance)
    which = torch.randint(0, count, (count, 8), generator=chance)
    for k in range(count):
        for piece in range(8):
            (i, j), (r, c) = drawn[k, piece].tolist(), cut[k, piece].tolist()
            patch = canvas[k, :, i : i + 5, j : j + 5]
            patch.copy_(torch.maximum(patch, images[which[k, piece], :, r : r + 5, c : c + 5]))
    return canvas, (at + 8.0) / 20 - 1


@pytest.mark.long
def test_the_centre_of_gravity_finds_a_digit_among_pieces_of_others() -> None:
    """By nothing but the digits' names: it never hears where they are."""
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    digits = load_dataset("digits")
    train = F.interpolate(digits.train.images.float() / 255, 16, mode="bilinear")
    test = F.interpolate(digits.test.images.float() / 255, 16, mode="bilinear")
    model = create_model("stn_lenet", input_size=40, output_size=16, localisation="centroid", zoom=0.6)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(STEPS // 20):
        x, _ = cluttered(train, chance)
        for rows in torch.split(torch.randperm(len(x), generator=chance)[: 20 * 64], 64):
            loss = F.cross_entropy(model(x[rows]), digits.train.labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    x, middles = cluttered(test, chance)
    with torch.no_grad():
        looks = model.get_submodule("transformer")
        assert isinstance(looks, SpatialTransformer)
        away = (looks.where(x)[:, :, 2].flip(1) - middles).norm(dim=1) * 20  # pixels
        error = float((model(x).argmax(1) != digits.test.labels).float().mean())
    assert float(away.median()) < 3 < float((middles * 20).norm(dim=1).median())
    assert error < 0.5  # a third after so few steps; nine of ten by guessing


def test_other_weights_leave_it_looking_at_everything() -> None:
    model = initialise(create_model("stn_lenet"), "he_normal", seed=1)
    assert isinstance(model.get_submodule("transformer"), SpatialTransformer)
    assert model.get_parameter("transformer.theta.bias").tolist() == [1, 0, 0, 0, 1, 0]
    assert not model.get_parameter("transformer.theta.weight").any()
    assert model.get_parameter("transformer.localisation.1.weight").any()
    fcn = initialise(create_model("fcn8s", small=True, width=0.05, classes=2), "he_normal", seed=1)
    assert torch.equal(fcn.get_parameter("upscore8.weight")[1, 1], bilinear_kernel(8))
    assert not fcn.get_parameter("score_pool3.weight").any()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="padding_mode: got 'wrap', wanted one of zeros, border, reflection"):
        SpatialTransformer(nn.Flatten(), 4, padding_mode="wrap")
    with pytest.raises(ArgumentError, match="features: got 0, wanted an integer ≥ 1"):
        SpatialTransformer(nn.Flatten(), 0)
    with pytest.raises(ArgumentError, match="output_size: got 20, wanted nothing: without a transformer"):
        create_model("stn_lenet", transformer=False, output_size=20)
    with pytest.raises(ArgumentError, match="zoom: got 0, wanted a number > 0"):
        SpatialTransformer(nn.Flatten(), 4, zoom=0)
    with pytest.raises(ArgumentError, match=r"shares: got \(2, 3\), wanted rows · columns = 4, the number of features"):
        SpatialTransformer(nn.Flatten(), 4, shares=(2, 3))
    with pytest.raises(UnknownNameError, match="localisation.*centroid"):
        create_model("stn_lenet", localisation="centroids")
    with pytest.raises(ArgumentError, match="transformer: got False, wanted True where localisation or zoom is chosen"):
        create_model("stn_lenet", transformer=False, zoom=0.5)
    with pytest.raises(ArgumentError, match="transformer: got 'no', wanted True or False"):
        create_model("stn_lenet", transformer="no")


def test_without_the_transformer_it_is_lenet() -> None:
    plain, own = create_model("stn_lenet", transformer=False), create_model("lenet5", activation="relu", pool="max")
    assert [*plain.state_dict()] == [*own.state_dict()]
    cut = create_model("stn_lenet", input_size=60, output_size=28)
    assert cut(torch.zeros(2, 1, 60, 60)).shape == (2, 10)
