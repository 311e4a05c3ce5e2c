"""How far a map can be trusted: curves, randomised weights, completeness."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.graph.capture import capture
from convscope.inspect import honesty
from convscope.inspect.attribution import METHODS, Place, attribute
from convscope.inspect.attribution.checks import blur, rank_correlation


class Sum(nn.Module):
    """Two classes; class 1 sums the pixels of the left half."""

    def forward(self, x: Tensor) -> Tensor:
        left = x[..., :4].sum((1, 2, 3))
        return torch.stack([torch.zeros_like(left), left], 1)


def test_deletion_and_insertion_by_hand() -> None:
    """A map that marks the left half: with it gone the score is that of an empty picture, long before random order has
    taken it; with it there the score is whole."""
    x = torch.ones(1, 1, 8, 8) / 8
    found = torch.zeros(1, 1, 8, 8)
    found[..., :4] = 1
    checks = honesty(Sum(), x, 1, "gradient", found=found)
    probability = 1 / (1 + np.exp(-4.0))
    assert checks.deletion.scores[0] == pytest.approx(probability, rel=1e-6)
    assert checks.deletion.scores[16] == pytest.approx(0.5, abs=1e-6)  # half of the pixels: the whole left half
    assert checks.deletion.scores[-1] == pytest.approx(0.5, abs=1e-6)
    by_loop = np.trapezoid(
        [1 / (1 + np.exp(-(32 - min(2 * k, 32)) / 8)) for k in range(33)], [k / 32 for k in range(33)]
    )
    assert checks.deletion.area == pytest.approx(by_loop, rel=1e-6)
    assert checks.deletion.area < checks.by_chance[0] - 0.05
    worst = honesty(Sum(), x, 1, "gradient", found=-found)
    assert worst.deletion.area > checks.by_chance[0] + 0.05


def test_insertion_brings_the_picture_back() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 2] = 2.0
    found = x.clone()
    checks = honesty(Sum(), x, Place("", 1), "gradient", found=found)
    assert checks.insertion.scores[-1] == pytest.approx(1.0)
    assert checks.insertion.scores[4] == pytest.approx(max(checks.insertion.scores), rel=1e-6)  # 8 of 64 pixels
    assert checks.insertion.area > checks.by_chance[1]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double().eval()


def test_completeness() -> None:
    model, x = net(), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    found = attribute(model, x, 1, "integrated_gradients", steps=50)
    rise = float((model(x) - model(torch.zeros_like(x)))[0, 1].detach())
    checks = honesty(model, x, 1, "integrated_gradients", found=found)
    assert checks.gap == pytest.approx((float(found.sum()) - rise) / abs(rise))
    assert honesty(model, x, 1, "grad_cam").gap is None
    assert honesty(model, x, 1, "smooth_grad").gap is None  # as many numbers as pixels, but no shares of the score
    started = honesty(model, x, 1, "integrated_gradients", baseline=0.5)
    assert started.gap is not None
    assert abs(started.gap) < 0.01
    assert started.randomised == honesty(model, x, 1, "integrated_gradients", baseline=0.5).randomised
    with torch.no_grad():
        for layer in (model[0], model[3]):  # type: ignore[index]
            layer.bias.zero_()
    homogeneous = honesty(model, x, 1, "gradient_x_input").gap  # without biases
    assert homogeneous is not None
    assert abs(homogeneous) < 1e-9


def test_randomised_from_the_last_layer_to_the_first() -> None:
    model, x = net(), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    checks = honesty(model, x, None, "gradient")
    assert [each.layer for each in checks.randomised] == ["3", "0"]
    assert all(-1 <= each.agreement <= 1 for each in checks.randomised)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = honesty(model, x, None, "gradient")
    assert again.randomised == checks.randomised


class Backwards(nn.Module):
    """Layers defined in another order than they are used in, one of them never, one twice; and a bare weight."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.unused = nn.Linear(2, 2)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(self.first(x)) * self.scale
        found: Tensor = self.out(self.twice(y).relu().mean((2, 3)))
        return found


def test_the_last_layer_is_the_one_that_is_used_last() -> None:
    """Whatever order they are defined in; the model and its graph are checked alike."""
    model, x = Backwards().double(), torch.randn(1, 1, 6, 6, dtype=torch.float64)
    checks = honesty(model, x, 1, "gradient")
    assert [each.layer for each in checks.randomised] == ["out", "twice", "model", "first"]
    assert honesty(capture(model, x), x, 1, "gradient").randomised == checks.randomised
    once = copy.deepcopy(model)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in (once.out.weight, once.out.bias):
            drawn = torch.randn(each.shape, generator=stream, dtype=torch.float64)
            each.copy_(each.mean() + each.std(correction=0) * drawn)
    agreement = rank_correlation(attribute(model, x, 1, "gradient"), attribute(once, x, 1, "gradient"))
    assert checks.randomised[0].agreement == pytest.approx(agreement)


class ForOne(nn.Module):
    """Written for one picture: with several it answers for the first, fails, or mixes them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.out = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.how == "the first":
            y = y[:1]
        if self.how == "mixes" and len(y) > 1:
            y = y - y.mean(0, keepdim=True)
        found: Tensor = self.out(y.reshape(1, -1) if self.how == "fails" else y.flatten(1))
        return found


@pytest.mark.parametrize("how", ["the first", "fails", "mixes"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "class_activation_map"])
def test_a_model_for_one_picture_is_given_one_at_a_time(method: str, how: str) -> None:
    """What it is asked many times over is what a model for batches says of the same pictures."""
    one, several = ForOne(how).double().eval(), ForOne("").double().eval()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(attribute(one, x, 1, method), attribute(several, x, 1, method))
    mine, theirs = (honesty(model, x, 1, method) for model in (one, several))
    assert len(mine.deletion.scores) == 33
    for curve in ("deletion", "insertion"):
        assert getattr(mine, curve).scores == pytest.approx(getattr(theirs, curve).scores)
    assert mine.by_chance == pytest.approx(theirs.by_chance)


def test_a_map_that_ignores_the_weights_is_found_out() -> None:
    """The picture itself as its map: with all weights random it is still the same."""
    model, x = net(), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    assert rank_correlation(x, x * 3) == pytest.approx(1)
    assert rank_correlation(x, -x) == pytest.approx(1)  # of the absolute values
    assert rank_correlation(x, torch.ones_like(x)) == 0
    assert abs(rank_correlation(x, attribute(model, x, 1, "gradient"))) < 0.5


def test_ranks_share_their_mean_where_equal() -> None:
    one = torch.tensor([1.0, 2.0, 2.0, 4.0, 5.0])
    other = torch.tensor([2.0, 1.0, 4.0, 3.0, 5.0])
    scipy = pytest.importorskip("scipy.stats")
    assert rank_correlation(one, other) == pytest.approx(scipy.spearmanr(one, other).statistic)


def test_blur_keeps_the_mean_of_a_flat_picture() -> None:
    flat = torch.full((1, 3, 9, 12), 0.7)
    torch.testing.assert_close(blur(flat), flat)
    row = torch.tensor([[1.0, 3.0]])
    assert blur(row).tolist() == [[2.0, 2.0]]
    spot = torch.zeros(1, 1, 21, 21)
    spot[0, 0, 10, 10] = 1
    wide = blur(spot, 0.1)
    assert float(wide.sum()) == pytest.approx(1, rel=1e-5)
    assert float(wide.max()) == float(wide[0, 0, 10, 10]) < 0.1


def test_one_example_at_a_time() -> None:
    with pytest.raises(ArgumentError, match="wanted one example"):
        honesty(net(), torch.randn(2, 2, 6, 6), 1)
