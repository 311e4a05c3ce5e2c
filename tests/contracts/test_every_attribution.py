"""What every attribution must keep, on networks of every kind: equal to Captum's where Captum has the method (on a twin
of the same weights that Captum's hooks can follow), else to a plain loop or to a property."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convscope
from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.training_modes import looking
from convscope.inspect.attribution import METHODS, Place, StoppedError, attribute
from convscope.inspect.attribution.checks import randomise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Captum imports warns of itself
    from captum import attr as captum

STYLES = ("sequential", "modules", "functional", "in place", "reused", "residual")
CLASSES = 5


class Net(nn.Module):
    """Convolutions, rectifiers of one style, maximum pooling, the mean of each map, one linear layer."""

    def __init__(self, style: str = "modules", residual: bool = False) -> None:
        super().__init__()
        self.style, self.residual = style, residual
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.c = nn.Conv2d(6, 8, 3)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(8, CLASSES)
        self.relus = nn.ModuleList([nn.ReLU(inplace=style == "in place") for _ in range(3)])

    def act(self, number: int, x: Tensor) -> Tensor:
        if self.style == "functional":
            functions: list[Callable[[Tensor], Tensor]] = [F.relu, torch.relu, lambda x: x.relu()]
            return functions[number](x)
        found: Tensor = self.relus[0 if self.style == "reused" else number](x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(0, self.a(x))
        y = F.max_pool2d(y, 2) if self.style == "functional" else self.pool(y)
        z = self.act(1, self.b(y) + y if self.residual else self.b(y))
        z = self.act(2, self.c(z))
        z = z.mean((2, 3)) if self.style == "functional" else self.mean(z).flatten(1)
        found: Tensor = self.out(z)
        return found


class Chain(nn.Sequential):
    """The same layers one after the other, with no forward of its own."""

    def __init__(self) -> None:
        net = Net()
        first, second, third = net.relus
        super().__init__(
            OrderedDict(
                a=net.a, first=first, pool=net.pool, b=net.b, second=second, c=net.c, third=third, mean=net.mean,
                flat=nn.Flatten(), out=net.out,
            )
        )  # fmt: skip

    @property
    def relus(self) -> list[Any]:
        return [self.first, self.second, self.third]


def net(style: str) -> tuple[Any, Net]:
    """A network of that style, and its twin of plain modules with the same weights."""
    torch.manual_seed(0)
    residual = style == "residual"
    own: Any = Chain() if style == "sequential" else Net("modules" if residual else style, residual)
    twin = Net("modules", residual)
    with torch.no_grad():
        own.out.weight.mul_(3)
    twin.load_state_dict(own.state_dict())
    return own.double().eval(), twin.double().eval()


def inputs() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 3, 12, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.tensor([1, 3])


def close(own: Tensor, its: Tensor, exactly: float = 1e-9) -> None:
    scale = float(its.abs().max())
    assert scale > 1e-6
    torch.testing.assert_close(own, its.detach().to(own).expand_as(own), rtol=0, atol=exactly * scale)


def cam(twin: Net, x: Tensor, target: Tensor) -> Tensor:
    found: Tensor = captum.LayerGradCam(twin, twin.relus[2]).attribute(x, target, relu_attributions=True)
    return found


#: method → (options of ours, Captum's answer on the twin). Captum works out some of its weights in float32.
CAPTUM: dict[str, tuple[dict[str, Any], Callable[[Net, Tensor, Tensor], Tensor], float]] = {
    "gradient": ({}, lambda m, x, t: captum.Saliency(m).attribute(x, t, abs=False), 1e-12),
    "gradient_x_input": ({}, lambda m, x, t: captum.InputXGradient(m).attribute(x, t), 1e-12),
    "integrated_gradients": (
        {"steps": 24, "baseline": 0.1},
        lambda m, x, t: captum.IntegratedGradients(m).attribute(x, torch.full_like(x, 0.1), t, n_steps=24),
        1e-6,
    ),
    "deconvnet": ({}, lambda m, x, t: captum.Deconvolution(m).attribute(x, t), 1e-12),
    "guided_backprop": ({}, lambda m, x, t: captum.GuidedBackprop(m).attribute(x, t), 1e-12),
    "grad_cam": ({"upsample": False}, cam, 1e-12),
    "guided_grad_cam": (
        {},
        lambda m, x, t: captum.GuidedGradCam(m, m.relus[2]).attribute(x, t, interpolate_mode="bilinear"),
        1e-12,
    ),
    "occlusion": (
        {"patch": (4, 5), "stride": (3, 2), "baseline": -0.2},
        lambda m, x, t: captum.Occlusion(m).attribute(x, (3, 4, 5), (3, 3, 2), -0.2, t)[:, :1],
        1e-6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("method", CAPTUM)
@pytest.mark.filterwarnings("ignore")
def test_equal_to_captum(method: str, style: str) -> None:
    own, twin = net(style)
    x, target = inputs()
    options, reference, exactly = CAPTUM[method]
    close(attribute(own, x, target, method, **options), reference(twin, x, target), exactly)


@pytest.mark.parametrize("style", STYLES)
def test_smooth_grad_is_the_mean_of_gradients_at_noisy_inputs(style: str) -> None:
    own, _ = net(style)
    x, target = inputs()
    stream = torch.Generator().manual_seed(7)
    total = torch.zeros_like(x)
    for _ in range(5):
        noise = torch.randn(x.shape, generator=stream, dtype=torch.float64)
        spread = torch.stack([each.max() - each.min() for each in x]).reshape(2, 1, 1, 1)
        leaf = (x + 0.1 * spread * noise).requires_grad_()
        (gradient,) = torch.autograd.grad(own(leaf).gather(1, target[:, None]).sum(), leaf)
        total += gradient
    close(attribute(own, x, target, "smooth_grad", samples=5, noise=0.1, seed=7), total / 5)


@pytest.mark.parametrize("style", STYLES)
def test_class_activation_map_is_the_weights_times_the_maps(style: str) -> None:
    own, twin = net(style)
    x, target = inputs()
    kept: list[Tensor] = []
    twin.mean.register_forward_hook(lambda module, given, output: kept.append(given[0]))
    scores = twin(x).gather(1, target[:, None])[:, 0]
    found = attribute(own, x, target, "class_activation_map", upsample=False)
    close(found[:, 0], torch.einsum("nk,nkhw->nhw", twin.out.weight[target], kept[0]))
    torch.testing.assert_close(found.mean((1, 2, 3)) + own.out.bias[target], scores)


@pytest.mark.parametrize("style", STYLES)
def test_integrated_gradients_are_complete(style: str) -> None:
    own, _ = net(style)
    x, target = inputs()
    found = attribute(own, x, target, "integrated_gradients")
    rise = (own(x) - own(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    assert float(((found.sum((1, 2, 3)) - rise) / rise).abs().max()) < 0.01


@pytest.mark.parametrize("style", STYLES)
def test_occlusion_by_a_plain_loop(style: str) -> None:
    """The same patches that the method chooses itself: a seventh of each side, moved by half of it."""
    own, _ = net(style)
    x, target = inputs()
    total, covered = torch.zeros(12, 14, dtype=torch.float64), torch.zeros(12, 14)
    with torch.no_grad():
        before = own(x)[0, target[0]]
        for top in range(12):
            for left in range(0, 13):
                changed = x[:1].clone()
                changed[:, :, top : top + 1, left : left + 2] = 0
                total[top : top + 1, left : left + 2] += before - own(changed)[0, target[0]]
                covered[top : top + 1, left : left + 2] += 1
    close(attribute(own, x, target, "occlusion")[0, 0], total / covered)


@pytest.fixture(params=METHODS.names())
def method(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.mark.parametrize("style", STYLES)
def test_shape_batch_and_single_example(method: str, style: str) -> None:
    own, _ = net(style)
    x, target = inputs()
    found = attribute(own, x, target, method)
    assert found.shape in (x.shape, (2, 1, 12, 14))
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) > 0
    if method != "smooth_grad":  # noise of another shape is other noise
        for number in (0, 1):
            single = attribute(own, x[number], int(target[number]), method)
            torch.testing.assert_close(single, found[number], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("style", STYLES)
def test_the_model_is_left_as_it_was(method: str, style: str) -> None:
    own, _ = net(style)
    own.train()
    own.b.eval()
    state = {name: value.clone() for name, value in own.state_dict().items()}
    x, target = inputs()
    before = x.clone()
    attribute(own, x, target, method)
    assert torch.equal(x, before)
    assert [module.training for module in own.modules()].count(False) == 1
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
    assert all(parameter.grad is None for parameter in own.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in own.modules())
    assert all(relu.inplace == (style == "in place") for relu in own.relus)


def test_the_planted_square_wins(method: str) -> None:
    """Class 1 sums what the picture's brightness adds up to, through rectified means of 3×3 pixels: the mark lies where
    the one bright square is. For Grad-CAM and its like the maps are as large as the picture."""
    model: Any = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    ).double()
    with torch.no_grad():
        model[0].weight.fill_(1 / 9)
        model[4].weight.copy_(torch.tensor([[0.0], [5.0]]))
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[0, 0, 9:13, 2:6] = 1
    if method == "deconvnet":  # without poolings it does not look at the picture: the same mark everywhere inside
        found = attribute(model, x, 1, method)
        torch.testing.assert_close(found, attribute(model, torch.rand_like(x), 1, method))
        return
    options: dict[str, Any] = {"noise": 0.0} if method == "smooth_grad" else {}
    found = attribute(model, x, 1, method, **options)[0].sum(0)
    inside = found[8:14, 1:7]
    assert float(inside.mean()) > 2 * float(found.mean()) > 0
    row, column = divmod(int(found.argmax()), 16)
    assert 8 <= row < 14
    assert 1 <= column < 7


def test_an_input_that_the_network_ignores_changes_nothing(method: str) -> None:
    """The first layer's weights for channel 2 are 0: its map is 0, and a constant added there moves no other number."""
    own, _ = net("modules")
    with torch.no_grad():
        own.a.weight[:, 2] = 0
    x, target = inputs()
    shifted = x.clone()
    shifted[:, 2] += 3
    options: dict[str, Any] = {"noise": 0.0} if method == "smooth_grad" else {}
    found, again = attribute(own, x, target, method, **options), attribute(own, shifted, target, method, **options)
    if found.shape[1] == 3:
        assert float(found[:, 2].abs().max()) < 1e-12
        torch.testing.assert_close(found[:, :2], again[:, :2], rtol=1e-9, atol=1e-12)
    else:
        torch.testing.assert_close(found, again, rtol=1e-9, atol=1e-12)


def deep() -> tuple[nn.Module, Tensor]:
    """Five layers of convolution; pixels of −1 and 1, so that the input as a factor orders nothing."""
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 16), (16, 16), (16, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 14 * 14, 10))
    return model.double().eval(), torch.randint(0, 2, (1, 1, 14, 14)).double() * 2 - 1


def test_other_weights_change_every_honest_map(method: str) -> None:
    """All layers but the first drawn anew: the map is another one. Guided backpropagation's barely changes, as it shows
    the first layer's edges (Adebayo et al. 2018)."""
    if method == "class_activation_map":
        own, _ = net("modules")
        model: nn.Module = own
        x = inputs()[0][:1]
    else:
        model, x = deep()
    layer = "5" if METHODS[method].layer else None
    found = attribute(model, x, 2, method, layer)
    with looking(model):
        again = randomise(model, x, torch.tensor([2]), found, method=method, layer=layer, **METHODS[method].quick)
    assert len(again) == len([name for name, _ in model.named_parameters() if name.endswith("weight")])
    assert (again[-2].agreement < 0.5) == METHODS[method].honest, again


def test_a_deconvnet_without_poolings_does_not_look_at_the_picture() -> None:
    """Without recorded maxima its way back is the same for every picture: what its maps show is the network alone."""
    model, x = deep()
    other = torch.rand_like(x)
    close(attribute(model, x, 2, "deconvnet"), attribute(model, other, 2, "deconvnet"))


@pytest.mark.parametrize(
    "place",
    [Place("b", 2, 3, 4), Place("b", 2), Place("b", 2, slice(1, 4), slice(None)), Place("", 3), Place("b")],
    ids=str,
)
@pytest.mark.parametrize("style", STYLES)
def test_gradient_of_a_unit_a_map_and_a_box(place: Place, style: str) -> None:
    own, twin = net(style)
    x, _ = inputs()
    kept: list[Tensor] = []
    twin.b.register_forward_hook(lambda module, given, output: kept.append(output))
    leaf = x.clone().requires_grad_()
    output = twin(leaf)
    y = kept[0] if place.layer else output
    (expected,) = torch.autograd.grad(y[(slice(None), *place.index)].sum(), leaf)
    close(attribute(own, x, place, "gradient"), expected)
    close(attribute(own, x, str(place), "gradient"), expected)


def test_every_method_explains_a_unit(method: str) -> None:
    own, _ = net("functional")
    x, _ = inputs()
    if method == "class_activation_map":
        with pytest.raises(ArgumentError, match="wanted one that lies behind the mean of the maps"):
            attribute(own, x, Place("b", 2, 3, 4), method)
        return
    found = attribute(own, x, Place("b", 2, 3, 4), method)
    assert found.shape[0] == 2
    if not METHODS[method].layer and method != "occlusion":  # a unit of b sees 8 of the 12 rows
        seen = convscope.receptive_field(own, "b", (3, 12, 14), (3, 4)).box
        outside = found.clone()
        outside[..., slice(*seen[0]), slice(*seen[1])] = 0
        assert not outside.any()
        assert found.any()


def test_every_method_says_what_it_is(method: str) -> None:
    entry = METHODS[method]
    assert entry.title
    assert len(entry.title) <= 110
    assert entry.name == method


def test_wrong_arguments_are_named(method: str) -> None:
    own, _ = net("modules")
    x, target = inputs()
    with pytest.raises(UnknownNameError, match=f"option of {method}: got 'colour'"):
        attribute(own, x, target, method, colour=1)
    with pytest.raises(ArgumentError, match="target: got 7, wanted a class, 0…4, or one for each of 2 inputs"):
        attribute(own, x, 7, method)
    if METHODS[method].layer:
        with pytest.raises(UnknownNameError, match="layer: got 'd'"):
            attribute(own, x, target, method, layer="d")
    else:
        with pytest.raises(ArgumentError, match=f"layer: got 'b', wanted none for {method}"):
            attribute(own, x, target, method, layer="b")


def test_stopping(method: str) -> None:
    own, _ = net("modules")
    x, target = inputs()
    if method in ("grad_cam", "class_activation_map"):  # one pass, made before anything could ask
        return
    with pytest.raises(StoppedError, match="cancelled"):
        attribute(own, x, target, method, stopped=lambda: True)


def test_the_page_says_what_it_is_equal_to_and_the_test_is_there(method: str) -> None:
    """A column for every style, and the names of tests of this file."""
    page = (Path(__file__).parents[2] / "docs" / "attribution.md").read_text(encoding="utf-8")
    table = page.split("## What each is equal to")[1].split("## Which fail")[0].splitlines()
    head = next(line for line in table if line.startswith("| method |"))
    assert [cell.strip() for cell in head.split("|")[2:-2]] == [*STYLES]
    cells = next(line for line in table if line.startswith(f"| `{method}` |")).split("|")[2:-1]
    assert len(cells) == len(STYLES) + 1
    tests = re.findall(r"`(test_\w+)`", cells[-1])
    assert tests
    assert all(callable(globals().get(name)) for name in tests)
    assert ("Captum" in cells[0]) == (method in CAPTUM)
    if method in CAPTUM:
        limits = {float(each) for cell in cells[:-1] for each in re.findall(r"Captum, (1e-\d+)", cell)}
        assert limits == {CAPTUM[method][2]}


def test_the_page_about_them_has_its_row(method: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "attribution.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{method}` |"))
    assert ("**no**" in row) == (not METHODS[method].honest)
