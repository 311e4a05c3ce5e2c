"""Fully convolutional networks: the paper's figures, alignment, weights carried over, unpooling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.oracles import worst
from torch import nn
from torch.nn import functional as F

from convscope import count, save
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.models import MODELS, create_model
from convscope.models.deconvnet import DeconvNet
from convscope.models.fcn import FCN, aligned, up

NAMES = ("fcn32s", "fcn16s", "fcn8s")


def hollow(name: str) -> FCN:
    with torch.device("meta"):
        model = MODELS[name].create(21, 3, {}).eval()
    assert isinstance(model, FCN)
    return model


def small(name: str, **options: object) -> FCN:
    torch.manual_seed(0)
    usual = {"small": True, "classes": 5, "width": 0.125}
    model = create_model(name, **{**usual, **options})  # type: ignore[arg-type]
    assert isinstance(model, FCN)
    return model


def test_parameters_and_sizes_are_the_papers() -> None:
    """Table 1: 134 million parameters before the answers, a field of 404 pixels, 16×16 scores of 500×500."""
    vgg16 = 14_714_688
    fc6, fc7 = 512 * 49 * 4096 + 4096, 4096 * 4096 + 4096
    model = hollow("fcn32s")
    assert sum(each.numel() for name, each in model.named_parameters() if "score" not in name) == vgg16 + fc6 + fc7
    assert round((vgg16 + fc6 + fc7) / 1e6) == 134
    assert MODELS["fcn32s"].card.parameters == vgg16 + fc6 + fc7 + 4097 * 21 + 21 * 21 * 64 * 64
    assert model.reach == 404 // 2 + 32
    sizes: dict[str, tuple[int, ...]] = {}
    model.score_fr.register_forward_hook(lambda module, inputs, y: sizes.__setitem__("score", tuple(y.shape)))
    with torch.device("meta"):
        assert model(torch.zeros(1, 3, 500, 500)).shape == (1, 21, 500, 500)
    assert sizes["score"] == (1, 21, 16, 16)


def test_crops_are_the_authors() -> None:
    assert aligned(99, 3) == ({16: 5, 8: 9}, {32: 19, 16: 27, 8: 31})
    assert aligned(0, 0) == ({16: -1, 8: -1}, {32: 16, 16: 8, 8: 4})


@pytest.mark.parametrize("name", NAMES)
def test_a_spot_is_answered_where_it_is(name: str) -> None:
    """All weights positive means: the scores of a spot must be largest around the spot, on the paper's paddings too."""
    for padding, options in ((1, {}), (100, {"small": False, "hidden": 8, "body": "vgg11"})):
        model = small(name, **{"width": 0.03, "classes": 1, **options}).double().eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.fill_(1 / module.weight[0].numel())
        base = torch.zeros(1, 3, 704, 704, dtype=torch.float64)
        top, left = 352 - padding + 1, 320 - padding + 1  # whole cells of the last pooling
        spot = base.clone()
        spot[:, :, top : top + 64, left : left + 64] = 1.0
        with torch.no_grad():
            y = (model(spot) - model(base))[0, 0]
        places = torch.arange(704, dtype=torch.float64)
        assert float((y.sum(1) * places).sum() / y.sum()) == pytest.approx(top + 31.5, abs=0.01)
        assert float((y.sum(0) * places).sum() / y.sum()) == pytest.approx(left + 31.5, abs=0.01)


@pytest.mark.parametrize("stride", [2, 8, 32])
def test_up_sampling_starts_bilinear(stride: int) -> None:
    x = torch.randn(2, 3, 4, 5)
    y = up(3, stride)(x).detach()
    wanted = F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
    cut, edge = stride // 2, stride
    inner = y[:, :, cut:-cut, cut:-cut]
    assert inner.shape == wanted.shape
    # at the border interpolate repeats the last value, where a transposed convolution has none
    assert worst(inner[..., edge:-edge, edge:-edge], wanted[..., edge:-edge, edge:-edge]) < 1e-6


def test_fixed_up_sampling_is_not_trained() -> None:
    model = small("fcn8s", upsampling="fixed")
    frozen = [name for name, each in model.named_parameters() if not each.requires_grad]
    assert frozen == ["upscore2.weight", "upscore_pool4.weight", "upscore8.weight"]
    assert all(each.requires_grad for each in small("fcn8s").parameters())


@pytest.mark.parametrize("name", NAMES)
def test_reach_is_how_far_a_pixel_sees(name: str) -> None:
    model = small(name, width=0.03).eval()
    side = 2 * model.reach + 41
    x = torch.randn(1, 3, side, side, requires_grad=True)
    place = side // 2
    model(x)[0, :, place, place].sum().backward()
    assert x.grad is not None
    seen = torch.nonzero(x.grad[0].abs().sum(0))
    reach = int((seen - place).abs().max())
    assert model.reach - 64 < reach <= model.reach


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 65)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    for name in NAMES:
        assert small(name).eval()(torch.zeros(1, 3, *size)).shape == (1, 5, *size)


def test_a_classifiers_weights_are_carried_over(tmp_path: Path) -> None:
    torch.manual_seed(1)
    classifier = create_model("vgg11", classes=4, hidden=6)
    path = tmp_path / "vgg11.safetensors"
    save_file(classifier.state_dict(), path)
    model = create_model("fcn16s", classes=5, weights=path, body="vgg11", hidden=6)
    assert isinstance(model, FCN)
    state = classifier.state_dict()
    assert torch.equal(model.features[0].weight, state["features.0.weight"])  # type: ignore[arg-type]
    assert torch.equal(model.fc6.weight, state["classifier.0.weight"].reshape(6, 512, 7, 7))
    assert torch.equal(model.fc7.bias, state["classifier.3.bias"])  # type: ignore[arg-type]
    # what the classifier says of 7×7 cells, fc7 says at the place that sees just these
    x = torch.randn(1, 512, 7, 7)
    head = classifier.get_submodule("classifier")
    assert isinstance(head, nn.Sequential)
    hidden = head[:5].eval()(x.flatten(1))
    answered = model.relu7(model.fc7(model.relu6(model.fc6(x)))).flatten(1)
    assert worst(answered.detach(), hidden.detach()) < 1e-5
    assert not model.score_pool4.weight.any()


def test_another_classifier_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg13.safetensors"
    save_file(create_model("vgg13", classes=4, hidden=6).state_dict(), path)
    with pytest.raises(CheckpointError, match="weights of another architecture"):
        create_model("fcn16s", classes=5, weights=path, body="vgg11", hidden=6)
    save_file(create_model("vgg11", classes=4, hidden=7).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"'fc6.weight' is \(7, 25088\), the model's \(6, 512, 7, 7\)"):
        create_model("fcn16s", classes=5, weights=path, body="vgg11", hidden=6)


def test_stages_go_from_32_to_8(tmp_path: Path) -> None:
    """The finer network begins where the coarser one ended: its skips add nothing yet."""
    coarse = small("fcn32s").eval()
    with torch.no_grad():
        coarse.score_fr.weight.mul_(30)
    path = save(coarse, tmp_path / "coarse.safetensors")
    x = torch.randn(1, 3, 96, 96)
    fine = create_model("fcn16s", small=True, width=0.125, classes=5, weights=path).eval()
    with torch.no_grad():
        differs = (fine(x) - coarse(x)).abs().mean() / coarse(x).abs().mean()
    assert differs < 0.1  # bilinear by 32 at once, or by 2 and then by 16
    finest = create_model("fcn8s", small=True, width=0.125, weights=save(fine, tmp_path / "fine.safetensors"))
    assert isinstance(finest, FCN)
    assert finest.score_fr.out_channels == 5
    assert torch.equal(finest.upscore2.weight, fine.get_parameter("upscore2.weight"))


def test_deconvnet_has_the_papers_parameters() -> None:
    assert round(MODELS["deconvnet"].card.parameters / 1e6) == 252


@pytest.mark.parametrize("in_channels", [3, 64])
def test_deconvnet_unpools_odd_maps(in_channels: int) -> None:
    model = create_model("deconvnet", small=True, in_channels=in_channels, classes=4, width=0.25).eval()
    assert isinstance(model, DeconvNet)
    assert model(torch.zeros(1, in_channels, 37, 65)).shape == (1, 4, 37, 65)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="body: got 'vgg61'.*Did you mean.*'vgg16'"):
        create_model("fcn8s", body="vgg61")
    with pytest.raises(ArgumentError, match="width: got 0, wanted a factor on the number of maps"):
        create_model("fcn8s", width=0)
    with pytest.raises(UnknownNameError, match="upsampling: got 'fix'"):
        create_model("fcn8s", upsampling="fix")


def test_pooling_that_records_its_maxima_is_counted() -> None:
    table = count(create_model("deconvnet", small=True, width=0.1, classes=4), (3, 64, 96))
    pooled = next(row for row in table if row.name == "pools.0")
    assert pooled.operations == 3 * 3 * 32 * 48  # three comparisons each, three maps
