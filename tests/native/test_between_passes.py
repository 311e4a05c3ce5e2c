"""What happens to a model between its forward and its backward pass, and transforms of the call as a whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn

from convscope import accelerate
from convscope.errors import ArgumentError, ConvscopeError

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 8, 8)


def net() -> Any:
    layers = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.Flatten(), nn.Linear(180, 4)
    return randomised(nn.Sequential(*layers)).eval()


def _swap(model: Any) -> None:
    model[4].weight.data = model[4].weight.data * 2


def _assign(model: Any) -> None:
    model.load_state_dict({name: each * 2 for name, each in model.state_dict().items()}, assign=True)


def _swap_and_call(model: Any) -> None:
    _swap(model)
    accelerate(model)(pictures(2, SHAPE))


@pytest.mark.parametrize("change", [_swap, _assign, _swap_and_call])
def test_other_numbers_than_those_of_the_forward_pass_are_no_gradient(change: Callable[[Any], None]) -> None:
    model = net()
    y = accelerate(model)(pictures(3, SHAPE)).square().sum()
    change(model)
    with pytest.raises(ConvscopeError, match="given other numbers"):
        y.backward()


@pytest.mark.parametrize("copied", [False, True])
def test_the_same_numbers_elsewhere_are_no_change(copied: bool) -> None:
    """Another accelerated module takes the parameters, a plan for another mode is made; a copy is put in place."""
    layers = nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(180, 4)
    model = randomised(nn.Sequential(*layers)).eval()
    plain, x = copy.deepcopy(model), pictures(5, SHAPE)
    one, other = accelerate(model), accelerate(model)
    for _ in range(3):
        for each, first, second in ((model, one, other), (plain, plain, plain)):
            each.zero_grad()
            total = first(x).square().sum() + second(x[:3]).sum() + first(x[:2]).sum()
            first.train()
            first(x)
            first.eval()
            if copied:
                for parameter in each.parameters():
                    parameter.data = parameter.data.clone()
            total.backward()
        for own, right in zip(model.parameters(), plain.parameters(), strict=True):
            assert relative(own.grad, right.grad) < 1e-4  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in (*model.parameters(), *plain.parameters()):
                parameter.mul_(0.9)


def test_statistics_that_change_in_between_are_noticed() -> None:
    model = net()
    y = accelerate(model)(pictures(3, SHAPE)).sum()
    model[1].running_var.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_frozen_parameters_that_change_in_between_are_noticed(part: str) -> None:
    """The backward pass reads them, as it repeats the forward pass."""
    model = net()
    model[4].requires_grad_(False)
    y = accelerate(model)(pictures(3, SHAPE)).sum()
    with torch.no_grad():
        getattr(model[4], part).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


class Scaled(nn.Module):
    """Holds a tensor that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 3)
        self.scale = torch.full((5, 1, 1), 1.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.a(x) * self.scale)


def test_other_tensors_that_change_in_between_are_noticed() -> None:
    model, x = Scaled(), pictures(3, SHAPE)
    fast = accelerate(model)
    fast(x).sum().backward()
    y = fast(x).sum()
    model.scale.mul_(2)
    with pytest.raises(ConvscopeError, match="given other numbers"):
        y.backward()
    assert relative(fast(x), model(x)) < 1e-5


def _gradient(model: nn.Module, x: Tensor) -> Any:
    parameters = {name: each.detach() for name, each in model.named_parameters()}
    found = torch.func.grad(lambda given: torch.func.functional_call(model, given, (x,)).square().sum())(parameters)
    return list(found.values())


def _forwards(model: nn.Module, x: Tensor) -> Any:
    with torch.autograd.forward_ad.dual_level():
        forwards: Any = torch.autograd.forward_ad
        return [forwards.unpack_dual(model(forwards.make_dual(x, torch.ones_like(x)))).tangent]


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")  # torch's own, of derivatives forwards
@pytest.mark.parametrize(
    "transform",
    [
        _gradient,
        _forwards,
        lambda model, x: [torch.vmap(model)(torch.stack([x, x * 2]))],
        lambda model, x: list(torch.func.jvp(model, (x,), (torch.ones_like(x),))),
    ],
    ids=["grad", "forward mode", "vmap", "jvp"],
)
def test_transforms_are_torchs(transform: Callable[[nn.Module, Tensor], list[Tensor]]) -> None:
    model, x = net(), pictures(3, SHAPE)
    fast = accelerate(copy.deepcopy(model))
    fast(x)
    for own, right in zip(transform(fast, x), transform(model, x), strict=True):
        assert relative(own, right) < 1e-5
    assert relative(fast(x), model(x)) < 1e-5


def test_nested_tensors_are_named() -> None:
    with pytest.raises(ArgumentError, match="a nested tensor"):
        accelerate(net())(torch.nested.nested_tensor([torch.zeros(SHAPE)], layout=torch.jagged))
