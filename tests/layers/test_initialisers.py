"""Initialisers: their spread, their repeatability, and what they leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convscope import layers
from convscope.layers import INITIALISERS, initialise
from convscope.layers.initialisers import fans

N_IN, N_OUT = 400.0, 300.0

#: deviation (normal) or bound (uniform) for 400 inputs and 300 outputs, worked out by hand
SPREADS = {
    "lecun_uniform": 0.006,
    "lecun_normal": 0.05,
    "glorot_uniform": 0.0925820,
    "glorot_normal": 0.0534522,
    "he_uniform": 0.1224745,
    "he_normal": 0.0707107,
    "uniform": 0.05,
    "normal": 0.01,
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_spread(name: str) -> None:
    linear = nn.Linear(int(N_IN), int(N_OUT))
    initialise(linear, name, seed=1)
    weight = linear.weight.detach()
    if INITIALISERS[name][0] == "uniform":
        assert float(weight.abs().max()) <= SPREADS[name] * (1 + 1e-6)
        assert float(weight.std()) == pytest.approx(SPREADS[name] / math.sqrt(3), rel=0.01)
    else:
        assert float(weight.std()) == pytest.approx(SPREADS[name], rel=0.01)
    assert abs(float(weight.mean())) < 4 * SPREADS[name] / math.sqrt(weight.numel())
    assert not linear.bias.any()


def test_same_seed_same_weights_whatever_came_before() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), layers.TableConv2d(3, None, 3, table="pairs"))

    one = initialise(build(), "he_normal", seed=3)
    torch.randn(100)
    other = initialise(build(), "he_normal", seed=3)
    third = initialise(build(), "he_normal", seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(third.parameters()))


def test_without_a_seed_the_global_generator_decides() -> None:
    torch.manual_seed(5)
    one = initialise(nn.Linear(3, 3), "normal").get_parameter("weight").clone()
    torch.manual_seed(5)
    assert torch.equal(initialise(nn.Linear(3, 3), "normal").get_parameter("weight"), one)


def test_each_output_map_of_a_table_has_its_own_fan_in() -> None:
    layer = layers.TableConv2d(6, 16, 5, table="lenet5_c3")
    fan_in = fans(layer)
    assert fan_in is not None
    assert isinstance(fan_in[0], torch.Tensor)
    assert set(fan_in[0].flatten().tolist()) == {75, 100, 150}
    assert fan_in[0].flatten()[0] == 75
    assert fan_in[0].flatten()[-1] == 150
    initialise(layer, "lecun_uniform", seed=0)
    assert layer.weight[-6:].abs().max() <= 2.4 / 150 < layer.weight[:18].abs().max() <= 2.4 / 75


def test_grouped_and_transposed_fans() -> None:
    assert fans(nn.Conv2d(8, 16, 3, groups=4)) == (18, 36)
    assert fans(nn.ConvTranspose2d(8, 16, 2)) == (32, 64)
    assert fans(nn.Conv3d(2, 5, (1, 2, 3))) == (12, 30)
    assert fans(nn.BatchNorm2d(3)) is None
    assert fans(layers.LocallyConnected2d(3, 4, 3, 8)) == (27, 36)


def test_normalisation_subsampling_and_codes_stay() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), layers.Subsample2d(3), layers.RBF())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise(model, "normal", seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
