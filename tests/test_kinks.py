"""Decisions at kinks are found, settled and counted; what rounding cannot have done is not excused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests import kinks
from tests.oracles import worst
from torch import Tensor, nn
from torch.nn import functional as F

TOLERANCE = 1e-5


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(60, 3),
    )  # fmt: skip


def pictures(seed: int = 1) -> Tensor:
    return torch.randn(3, 2, 10, 12, generator=torch.Generator().manual_seed(seed))


def objective(y: Tensor) -> Tensor:
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    return (y * weights).sum()


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """In float64, by autograd alone."""
    exact, leaf = copy.deepcopy(model).double(), x.double().requires_grad_()
    objective(exact(leaf.clone())).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    named = {name: each.grad for name, each in exact.named_parameters() if each.grad is not None}
    return {"input gradient": leaf.grad, **named}


def settle(model: nn.Module, x: Tensor, got: dict[str, Tensor]) -> tuple[kinks.Settled, float]:
    """And what differs after it, at most, in parts of each gradient's largest number."""
    scales = {name: float(each.abs().max()) for name, each in got.items()}
    settled = kinks.settle(model, x, objective, got, scales, TOLERANCE)
    return settled, max(worst(got[name], settled.gradients[name]) for name in got)


def moved_to(model: nn.Sequential, x: Tensor, layer: int, unit: tuple[int, ...], value: float) -> nn.Module:
    """The model whose ``layer`` gives ``value`` at ``unit`` (of the bias's map), to within float32's rounding."""
    model = copy.deepcopy(model)
    convolution: Any = model[layer]
    with torch.no_grad():
        at = float(copy.deepcopy(model[: layer + 1]).double()(x.double())[unit])
        convolution.bias[unit[1]] += value - at
    return model


def other_side(model: nn.Module, x: Tensor, layer: int, unit: tuple[int, ...]) -> dict[str, Tensor]:
    """Gradients with that unit's activation on the other side, written apart from ``kinks``: its slope is replaced."""
    slope = {1: (0.0, 1.0), 4: (0.2, 1.0)}[layer + 1]
    exact, leaf = copy.deepcopy(model).double(), x.double().requires_grad_()
    assert isinstance(exact, nn.Sequential)
    y = leaf.clone()
    for number, part in enumerate(exact):
        if number == layer + 1:
            slopes = torch.full_like(y, slope[0]).masked_fill(y > 0, slope[1])
            slopes[unit] = sum(slope) - slopes[unit]
            y = part(y).detach() + slopes * (y - y.detach())
        else:
            y = part(y)
    objective(y).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    named = {name: each.grad for name, each in exact.named_parameters() if each.grad is not None}
    return {"input gradient": leaf.grad, **named}


def visible() -> tuple[int, ...]:
    """A unit of the first layer that is well above the other three of its pool's window."""
    y = copy.deepcopy(net()[:1])(pictures()).detach()
    for unit in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(4), torch.arange(5)).tolist():
        n, c, row, column = unit
        window = y[n, c, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
        if float(window[0]) > float(window[1:].max()) + 0.2:
            return n, c, 2 * row, 2 * column
    raise AssertionError("no such unit")


FIRST, SECOND = visible(), (2, 1, 2, 0)
UNITS = [(0, FIRST), (3, SECOND)]


def test_it_is_autograd_where_nothing_is_open() -> None:
    model, x = net(), pictures()
    settled, difference = settle(model, x, gradients(model, x))
    assert difference < 1e-12
    assert settled.turned == 0
    assert settled.decisions == 3 * (4 * 8 * 10 + 4 * 4 * 5 + 5 * 3 * 4)


@pytest.mark.parametrize(("layer", "unit"), UNITS)
def test_a_unit_within_rounding_is_settled(layer: int, unit: tuple[int, ...]) -> None:
    model, x = moved_to(net(), pictures(), layer, unit, 0.0), pictures()
    turned = other_side(model, x, layer, unit)
    own = gradients(model, x)
    assert max(worst(turned[name], own[name]) for name in own) > 100 * TOLERANCE
    settled, difference = settle(model, x, turned)
    assert difference < 1e-12
    assert settled.turned == 1
    assert settled.open <= 4


@pytest.mark.parametrize(("layer", "unit", "value"), [(0, FIRST, 1e-3), (3, SECOND, 1e-3), (3, SECOND, -1e-3)])
def test_a_unit_far_from_its_kink_is_not_excused(layer: int, unit: tuple[int, ...], value: float) -> None:
    model, x = moved_to(net(), pictures(), layer, unit, value), pictures()
    _, difference = settle(model, x, other_side(model, x, layer, unit))
    assert difference > 100 * TOLERANCE


def test_two_units_on_one_path() -> None:
    x = pictures()
    model = moved_to(net(), x, 0, FIRST, 0.0)
    model = moved_to(model, x, 3, (1, 1, 1, 1), 0.0)  # type: ignore[arg-type]
    own = gradients(model, x)
    exact = copy.deepcopy(model).double()

    def turned(number: int, unit: tuple[int, ...], low: float) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor], y: Tensor) -> Tensor:
            slopes = torch.full_like(y, low).masked_fill(inputs[0] > 0, 1.0)
            slopes[unit] = 1 + low - slopes[unit]
            return y.detach() + slopes * (inputs[0] - inputs[0].detach())

        exact.get_submodule(str(number)).register_forward_hook(hook)

    turned(1, FIRST, 0.0)
    turned(4, (1, 1, 1, 1), 0.2)
    got = gradients(exact, x)
    assert max(worst(got[name], own[name]) for name in own) > 100 * TOLERANCE
    settled, difference = settle(model, x, got)
    assert difference < 1e-12
    assert settled.turned == 2


@pytest.mark.parametrize("layer", [0, 3, 6])
def test_a_wrong_gradient_is_not_excused(layer: int) -> None:
    """The canary: one place of one gradient wrong by a thousandth of the largest, with units open as well."""
    model, x = moved_to(net(), pictures(), 0, FIRST, 0.0), pictures()
    got = other_side(model, x, 0, FIRST)
    wrong = got[f"{layer}.weight"].view(-1)
    wrong[7] += 1e-3 * wrong.abs().max()
    settled, difference = settle(model, x, got)
    assert difference > 0.9e-3
    assert settled.open > 0


def tie(model: Callable[[Tensor], Tensor], apart: float) -> tuple[Tensor, Tensor]:
    """(x, gradient of x) where two candidates of the first window are ``apart`` and the smaller one is taken."""
    x = torch.arange(36.0).reshape(1, 1, 6, 6) / 36
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 2.0, 2.0 - apart
    own = x.double().requires_grad_()
    swapped = own.clone()
    swapped[0, 0, 0, 0] = own[0, 0, 0, 0] - 1.0  # no longer the largest
    objective(model(swapped)).backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    return x, own.grad


MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: F.max_pool2d(x, 2),
    "overlapping": lambda x: F.max_pool2d(x, 3, 2, padding=1),
    "dilated, ceil": lambda x: F.max_pool2d(x, (2, 2), (3, 2), dilation=(1, 1), ceil_mode=True),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "adaptive that does not divide": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
}


class Model(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", MAXIMA)
@pytest.mark.parametrize("apart", [2e-7, 1e-3])
def test_ties_of_maxima(name: str, apart: float) -> None:
    function = MAXIMA[name]
    x, got = tie(function, apart)
    settled, difference = settle(Model(function), x, {"input gradient": got})
    if apart < 1e-6:
        assert difference < 1e-12
        assert settled.turned >= 1
    else:
        assert difference > 0.1


def test_equal_by_construction_is_not_open() -> None:
    """Zeros behind a ReLU are equal for both sides; which of them a maximum takes is a convention, not rounding."""
    x = -torch.ones(1, 1, 4, 4)
    got = {"input gradient": torch.zeros(1, 1, 4, 4)}
    assert kinks.settle(Model(lambda x: F.max_pool2d(x.relu(), 2)), x, objective, got, {"input gradient": 1.0}, 1e-5)[
        1:
    ] == (0, 0, 20)


@pytest.mark.parametrize(
    "function",
    [torch.relu_, F.relu_, lambda x: F.relu(x, inplace=True), lambda x: x.clamp_(min=0), nn.ReLU(inplace=True)],
)
def test_functions_in_place(function: Callable[[Tensor], Tensor]) -> None:
    """What is written in place is read again; torch's own gradient is the measure."""

    def model(x: Tensor) -> Tensor:
        y = x * 1.5
        function(y)
        return y * x

    x = pictures()
    settled, difference = settle(Model(model), x, gradients(Model(model), x))
    assert difference < 1e-12
    assert settled.decisions == x.numel()


@pytest.mark.parametrize(
    ("function", "kink"),
    [
        (F.relu6, 6.0), (F.hardtanh, -1.0), (F.hardsigmoid, 3.0), (F.hardswish, -3.0), (F.selu, 0.0), (torch.abs, 0.0),
        (lambda x: F.elu(x, 1.3), 0.0), (lambda x: x.clamp(-0.5, 0.25), 0.25), (F.leaky_relu, 0.0),
    ],
)  # fmt: skip
def test_every_kink_is_found(function: Callable[[Tensor], Tensor], kink: float) -> None:
    x = torch.tensor([[kink - 1e-7, kink + 0.1, kink - 0.1]])
    x[0, 0] = torch.nextafter(torch.tensor(kink), torch.tensor(-torch.inf))
    got = gradients(Model(function), torch.tensor([[kink + 1e-6, kink + 0.1, kink - 0.1]]).double())
    settled, difference = settle(Model(function), x, got)
    assert settled[1:] == (1, 1, 3)
    assert difference < 1e-5


def test_smooth_functions_are_never_open() -> None:
    x = torch.tensor([[0.0, 1e-9, 1.0]])
    for function in (F.silu, torch.tanh, F.elu, F.softplus):
        assert settle(Model(function), x, gradients(Model(function), x))[0].open == 0


def test_too_many_open_decisions_say_nothing() -> None:
    x = torch.full((1, 1000), 1e-9)
    x[0, 0] = 1.0
    with pytest.raises(AssertionError, match="999 of 1000 decisions are within rounding"):
        settle(Model(torch.relu), x, gradients(Model(torch.relu), x + 1))
