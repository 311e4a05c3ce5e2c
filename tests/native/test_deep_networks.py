"""Training of deep networks: gradients within 1e-4 of float64, on counted sides of kinks, and without kinks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.native import deep
from tests.native.comparing import WHOLE_NETWORK, pictures, randomised
from torch import nn

from convscope.native import availability

pytestmark = pytest.mark.skipif(not availability.available(), reason="the engine is not built")

#: Of all units with a kink, how many may be on the other side than in float64, and how far off their values may be, in
#: parts of their tensor's root mean square. Up to 3.4e-6 and 4e-5 were seen.
TURNED, OFF = 1e-5, 1e-4
QUICK = "mobilenet_v2 64×64"


def networks() -> list[Any]:
    return [name if name == QUICK else pytest.param(name, marks=pytest.mark.long) for name in deep.NETWORKS]


@pytest.mark.parametrize("name", networks())
def test_gradients_on_the_sides_that_the_engine_took(name: str) -> None:
    (engine,) = deep.gaps(name, 0, torchs=False)
    assert engine.sided <= WHOLE_NETWORK, f"{engine.where}: {engine.sided:.2e}"
    assert engine.sides > 1e6
    assert engine.turned <= TURNED * engine.sides
    assert engine.off <= OFF
    assert engine.turned or engine.plain <= WHOLE_NETWORK


@pytest.mark.parametrize("name", networks())
def test_gradients_without_kinks(name: str) -> None:
    (engine,) = deep.gaps(name, 1, smooth=True, torchs=False)
    assert engine.sides == 0
    assert engine.plain <= WHOLE_NETWORK, f"{engine.where}: {engine.plain:.2e}"


def small(pool: type[nn.Module] = nn.MaxPool2d) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU6(), pool(2), nn.Flatten(), nn.Linear(54, 4)
    return randomised(nn.Sequential(*layers)).train(), pictures(5, (3, 8, 8)), torch.arange(5) % 4


def test_float64s_own_sides_change_nothing() -> None:
    model, x, targets = small()
    heard = deep.Heard()
    exact = deep.by_torch(model, x.double(), targets, heard)
    found = deep.gap(model, x, targets, exact, heard.values, exact)
    assert (found.plain, found.sided, found.turned) == (0, 0, 0)
    assert found.sides == 5 * 6 * (36 + 9)


def test_a_unit_that_was_turned_is_counted_and_its_distance_told() -> None:
    model, x, targets = small(nn.AvgPool2d)  # of which no maximum hides the unit
    heard = deep.Heard()
    exact = deep.by_torch(model, x.double(), targets, heard)
    units = heard.values[0].flatten()
    nearest = int(units.abs().argmin())
    was = float(units[nearest])
    units[nearest] = -was
    found = deep.gap(model, x, targets, exact, heard.values, exact)
    assert found.turned == 1
    assert found.off == pytest.approx(2 * abs(was) / float(heard.values[0].square().mean().sqrt()), rel=1e-3)
    assert found.sided > 1e-4  # the gradients were those of the other side


def test_values_that_the_network_never_had_are_refused() -> None:
    model, x, targets = small()
    heard = deep.Heard()
    exact = deep.by_torch(model, x.double(), targets, heard)
    with pytest.raises(AssertionError, match="never had"):
        deep.gap(model, x, targets, exact, [each * 1.1 for each in heard.values], exact)
