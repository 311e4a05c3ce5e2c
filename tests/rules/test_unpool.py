"""Unpooling: the places of the maxima, against hand-worked numbers and torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import tape
from convscope.rules.unpool import MaxUnpool


def test_unpooling_puts_maxima_back_and_takes_their_delta() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2, return_indices=True)
            self.unpool = nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            y, places = self.pool(x)
            back: Tensor = self.unpool(y, places)
            return back

    x = torch.tensor([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 1.0]]]], dtype=torch.float64)
    ran = tape.forward(Net(), x)
    y = ran.output
    assert y.flatten().tolist() == [0, 5, 0, 0, 0, 0, 8, 0]
    delta = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(1, 1, 2, 4)
    (delta_x,) = ran.backward(delta).inputs
    assert delta_x is not None
    assert delta_x.flatten().tolist() == [0, 2, 0, 0, 0, 0, 7, 0]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unpooling_rule_against_torch(dims: int) -> None:
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dims - 1](3, 2, 1, return_indices=True)
    unpool = (nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)[dims - 1](3, 2, 1)
    x, places = pool(torch.randn(2, 3, *(7, 5, 9)[:dims], dtype=torch.float64))
    leaf = x.detach().clone().requires_grad_()
    y = unpool(leaf, places)
    rule = MaxUnpool(dims, 3, 2, 1)
    own, saved = rule.forward(x, places)
    assert torch.equal(own, y)
    delta = torch.randn_like(y)
    y.backward(delta)
    (delta_x, none), _ = rule.backward(saved, delta)
    assert none is None
    assert delta_x is not None
    assert torch.equal(delta_x, leaf.grad)


def test_unpooling_to_an_odd_map_of_the_call() -> None:
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.unpool = pool, unpool

        def forward(self, x: Tensor) -> Tensor:
            y, places = self.pool(x)
            back: Tensor = self.unpool(y, places, x.size())
            return back

    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    ran = tape.forward(Net(), x.detach())
    assert [type(step.rule).__name__ for step in ran][-1] == "MaxUnpool"
    y = Net()(x)
    assert torch.equal(ran.output, y)
    delta = torch.randn_like(y)
    y.backward(delta)
    (delta_x,) = ran.backward(delta).inputs
    assert delta_x is not None
    assert x.grad is not None
    assert torch.equal(delta_x, x.grad)


def test_a_size_that_pooling_cannot_have_had_is_refused() -> None:
    y, places = nn.MaxPool2d(2, return_indices=True)(torch.randn(1, 1, 4, 4))
    with pytest.raises(ArgumentError, match=r"output_size: got \(4, 7\), wanted less than a stride"):
        MaxUnpool(2, 2).forward(y, places, (4, 7))
