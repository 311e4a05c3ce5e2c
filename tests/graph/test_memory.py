"""Writing in place, seen by a capture: every name of the memory, buffers, weights, frozen parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.graph.cases import (
    X,
    leaves,
)
from torch import Tensor, nn

from convscope.graph.capture import capture, facts


def test_frozen_by_no_grad() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        @torch.no_grad()
        def features(self, x: Tensor) -> Tensor:
            y: Tensor = self.frozen(x)
            return y.relu()

        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            with torch.set_grad_enabled(False):
                scale = h.mean()
            y: Tensor = self.head(h) * scale
            return y

    model = Net()
    graph = capture(model, X)
    graph(X).sum().backward()
    assert model.frozen.weight.grad is None
    assert model.head.weight.grad is not None
    own = model.head.weight.grad.clone()
    model.zero_grad()
    model(X).sum().backward()
    assert torch.equal(own, model.head.weight.grad)


class Frozen(nn.Module):
    """What is written in place where autograd is off: layers that write over their input, ``out=``, copies, parts."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.body = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU(True)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        z = torch.zeros_like(h)
        with torch.no_grad():
            if self.how == "layers":
                z = self.body(h)
            elif self.how == "function":
                z = nn.functional.relu_(self.body[0](h))
            elif self.how == "out":
                torch.add(h, 1, out=z)
            elif self.how == "copy":
                z.copy_(h)
            elif self.how == "item":
                z[:, 0] = h[:, 1]
            elif self.how == "part":
                z[:, 1].add_(h[:, 1])
        z += h * 2  # autograd sees this
        y: Tensor = self.head(h + z)
        return y


@pytest.mark.parametrize("how", ["layers", "function", "out", "copy", "item", "part"])
def test_what_is_written_with_autograd_off_has_no_gradient(how: str) -> None:
    model = Frozen(how).double()
    graph = capture(model, X.double())
    assert not facts(graph).opaque
    results = []
    for each in (model, graph):
        leaf = X.double().requires_grad_()
        y = each(leaf)
        results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *model.conv.parameters()])))
        with pytest.raises(RuntimeError, match="unused|not have been used"):
            torch.autograd.grad(each(leaf).sum(), list(model.body.parameters()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


class InPlace(nn.Module):
    """Augmented assignment, aliases, views, parts, writing that autograd does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        first, copied, same = h, h.clone(), h.contiguous()
        h += 1.0
        h = self.relu(h)
        h = h.clone()
        flat = h.view(h.size(0), -1)
        flat[:, 3:5] = flat[:, :2] * 2
        upper, lower = h[:, :, :2], h.detach()
        lower.mul_(0.5)
        with torch.no_grad():
            upper.add_(0.25)
        h[h > 3] = 3.0
        y: Tensor = first + copied + same * 2 + flat.view_as(h) + upper.mean()
        return y


def test_writing_in_place_reaches_every_name_and_gradients_are_autograd_s() -> None:
    model = InPlace()
    x = X.clone().requires_grad_()
    graph = capture(model, x)
    assert leaves(graph) == ["conv", "relu"]
    results = []
    for each in (model, graph):
        leaf = X.clone().requires_grad_()
        y = each(leaf)
        results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *model.parameters()])))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_buffers_that_the_forward_changes_are_changed_by_the_graph_and_not_by_capturing() -> None:
    class Counting(nn.Module):
        steps: Tensor
        centre: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("steps", torch.zeros(()))
            self.register_buffer("centre", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            self.steps = self.steps + 1
            self.centre.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
            y: Tensor = self.norm(x - self.centre.view(1, 3, 1, 1))
            return y

    model, twin = Counting(), Counting()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = capture(model, X)
    assert facts(graph).changes == ()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for _ in range(2):
        torch.testing.assert_close(graph(X), twin(X))
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_weights_that_the_forward_writes_are_put_back() -> None:
    class Clips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([3.0, -3.0]))
            self.table = nn.Embedding(4, 2, max_norm=0.1)

        def forward(self, x: Tensor) -> Tensor:
            self.weight.data.clamp_(-1, 1)
            y: Tensor = self.table(torch.tensor([1, 2])) + x * self.weight
            return y

    model = Clips()
    table = model.table.weight.detach().clone()
    graph = capture(model, torch.ones(2))
    assert model.weight.tolist() == [3.0, -3.0]
    assert torch.equal(model.table.weight, table)
    found = graph(torch.ones(2))
    assert model.weight.tolist() == [1.0, -1.0], "the graph does what the model does"
    torch.testing.assert_close(found, model(torch.ones(2)))


def test_tensors_that_are_no_buffers() -> None:
    kept = torch.tensor([1.0, 2.0, 3.0])

    class Constants(nn.Module):
        weights: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", torch.arange(3.0))
            self.plain = torch.full((3,), 2.0)
            self.several = [torch.ones(3), {"deep": torch.full((3,), 0.5)}]

        def forward(self, x: Tensor, offset: Tensor = torch.zeros(3)) -> Any:  # noqa: B008
            first: Any
            deep: Any
            first, deep = self.several
            return x * self.weights + self.plain * kept + first + deep["deep"] + offset + torch.tensor([1.0])

    model, x = Constants(), torch.randn(2, 3)
    graph = capture(model, x)
    torch.testing.assert_close(graph(x), model(x))
    assert hasattr(model, "plain")
    kept.add_(1)
    torch.testing.assert_close(graph(x), model(x))
