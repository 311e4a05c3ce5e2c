"""Folded batch normalisation: the same outputs, and only where nothing else needs the convolution's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import ONE_LAYER, pictures, randomised, relative
from tests.native.parts import Function
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.lowering.plan import Plan
from convscope.native import NativeNetwork, lower

SHAPE = (3, 9, 7)


def kinds(plan: Plan) -> list[str]:
    return [record.kind for record in plan.records]


def with_functions(s: Any, x: Tensor) -> Tensor:
    norm = s.norm
    return F.batch_norm(s.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "bias": lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
    "no bias": lambda: nn.Sequential(nn.Conv2d(3, 17, (3, 2), 2, 1, bias=False), nn.BatchNorm2d(17, eps=0.3)),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 9, 3, groups=3), nn.BatchNorm2d(9)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.BatchNorm2d(3), nn.ReLU6()),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(189, 33, bias=False), nn.BatchNorm1d(33), nn.Tanh()),
    "chain": lambda: nn.Sequential(
        *(part for c in (3, 4, 4) for part in (nn.Conv2d(c, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()))
    ),
    "functions": lambda: Function(with_functions, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)),
}


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("count", [1, 16, 17])
def test_it_computes_the_same(name: str, count: int, any_engine: str) -> None:
    model = randomised(FOLDED[name]()).eval()
    x = pictures(count, SHAPE)
    wanted = model.double()(x.double()).float()
    network = NativeNetwork(model.float(), SHAPE, fold=True)
    assert "batch_norm" not in kinds(network.plan)
    assert relative(network.forward(x), wanted) <= ONE_LAYER


def test_by_hand(any_engine: str) -> None:
    """x = 2, W = 3, b = 1, μ = 1, σ² + ε = 4, γ = 5, β = −2: s = 5/2, W' = 7.5, b' = −2, y = 13."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1.0)).eval()
    for name, value in {"0.weight": 3, "0.bias": 1, "1.weight": 5, "1.bias": -2}.items():
        nn.init.constant_(model.get_parameter(name), value)
    model.get_buffer("1.running_mean").fill_(1)
    model.get_buffer("1.running_var").fill_(3)
    network = NativeNetwork(model, (1, 1, 1), fold=True)
    weight, bias = (each.value().tolist() for each in network.plan.constants)
    assert (weight, bias) == ([7.5], [-2.0])
    assert network.forward(torch.full((1, 1, 1, 1), 2.0)).tolist() == [[[[13.0]]]]


def test_weights_may_change_afterwards(any_engine: str) -> None:
    model = randomised(FOLDED["bias"]()).eval()
    network = NativeNetwork(model, SHAPE, fold=True)
    x = pictures(3, SHAPE)
    before = network.forward(x)
    model.load_state_dict(randomised(FOLDED["bias"](), seed=9).state_dict())
    with torch.no_grad():
        assert relative(network.forward(x), model(x)) <= ONE_LAYER
    assert relative(network.forward(x), before) > 0.01


def read_twice(s: Any, x: Tensor) -> Tensor:
    y = s.conv(x)
    total: Tensor = s.norm(y) + y
    return total


def returned_too(s: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = s.conv(x)
    return y, s.norm(y)


def normalised_twice(s: Any, x: Tensor) -> Tensor:
    y = s.conv(x)
    total: Tensor = s.norm(y) + s.other(y)
    return total


KEPT: dict[str, Callable[[], nn.Module]] = {
    "read twice": lambda: Function(read_twice, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)),
    "returned too": lambda: Function(returned_too, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)),
    "normalised twice": lambda: Function(
        normalised_twice, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), other=nn.BatchNorm2d(4)
    ),
    "after pooling": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)),
    "first of all": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
    "after a shuffle": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ChannelShuffle(2), nn.BatchNorm2d(4)),
}


@pytest.mark.parametrize("name", KEPT)
def test_it_is_left_where_the_output_is_needed(name: str, any_engine: str) -> None:
    model = randomised(KEPT[name]()).eval()
    network = NativeNetwork(model, SHAPE, fold=True)
    assert kinds(network.plan) == kinds(lower(model, SHAPE))
    x = pictures(2, SHAPE)
    with torch.no_grad():
        wanted = model(x)
    got = network.forward(x)
    for own, other in zip(*((each,) if isinstance(each, Tensor) else each for each in (got, wanted)), strict=True):
        assert relative(own, other) <= ONE_LAYER


def test_training_is_left_alone() -> None:
    model = FOLDED["chain"]()
    assert kinds(lower(model.train(), SHAPE, fold=True)).count("batch_norm") == 3
    assert kinds(lower(model.eval(), SHAPE)).count("batch_norm") == 3
    assert kinds(lower(model.eval(), SHAPE, fold=True)).count("batch_norm") == 0
    model.get_submodule("1").train()
    mixed = lower(model, SHAPE, fold=True)
    assert mixed.training
    assert mixed.records == lower(model, SHAPE).records


def test_a_wrong_fold_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.lowering import folding

    model = randomised(FOLDED["bias"]()).eval()
    x = pictures(3, SHAPE)
    with torch.no_grad():
        wanted = model(x)
    right = folding._Pair.bias
    monkeypatch.setattr(folding._Pair, "bias", lambda self: right(self) * (1 + 1e-3))
    assert relative(NativeNetwork(model, SHAPE, fold=True).forward(x), wanted) > ONE_LAYER
