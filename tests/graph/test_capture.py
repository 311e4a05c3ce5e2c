"""Capture of a model's graph."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError
from convscope.graph.capture import capture, find_module, source_model


def _leaves(graph: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]


class Branching(nn.Module):
    """Depends on its data: cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


class AnyNumber(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack(list(inputs)).sum(0)


class Noise(nn.Module):
    """Traceable, but its noise would be drawn once and for all."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(1)


class CoinToss(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if random.random() < 0.5 else x


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.last, self.calls = x, self.calls + 1
        return F.relu(x)


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.inner = inner
        self.block = nn.Sequential(nn.ReLU(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.inner(self.first(x)))
        return y


def test_torch_layers_are_leaves_and_containers_are_not() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten())
    graph = capture(model)
    assert _leaves(graph) == ["0", "1.0", "1.1", "2"]
    assert find_module(graph, list(graph.graph.nodes)[1]) is model[0]
    assert find_module(graph, next(iter(graph.graph.nodes))) is None
    assert source_model(graph) is model
    x = torch.randn(2, 1, 6, 5)
    assert torch.equal(graph(x), model(x))


def test_own_layers_are_leaves() -> None:
    from convscope.layers import ScaledTanh, Subsample2d

    graph = capture(nn.Sequential(Subsample2d(1), ScaledTanh()))
    assert _leaves(graph) == ["0", "1"]


@pytest.mark.parametrize("inner", [Branching(), Noise(), CoinToss()], ids=lambda inner: type(inner).__name__)
def test_the_innermost_submodule_that_cannot_be_traced_becomes_a_leaf(inner: nn.Module) -> None:
    assert _leaves(capture(Around(inner))) == ["first", "inner", "block.0", "block.1"]
    assert _leaves(capture(Around(Around(inner)))) == [
        "first", "inner.first", "inner.inner", "inner.block.0", "inner.block.1", "block.0", "block.1",
    ]  # fmt: skip


def test_a_submodule_of_many_inputs_is_traced_or_a_leaf() -> None:
    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.join = AnyNumber()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.join(x, x * 2)
            return y

    x = torch.randn(2, 3)
    torch.testing.assert_close(capture(Uses())(x), x * 3)


@pytest.mark.parametrize("model", [Branching(), nn.Conv2d(3, 2, 3), nn.LSTM(3, 4)], ids=lambda m: type(m).__name__)
def test_whole_model_as_one_leaf(model: nn.Module) -> None:
    graph = capture(model)
    assert _leaves(graph) == ["model"]
    assert find_module(graph, list(graph.graph.nodes)[-2]) is model
    assert source_model(graph) is model


def test_whole_model_with_several_inputs() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor, scale: float = 2.0) -> Tensor:
            return a * scale if b.sum() > 0 else a

    graph = capture(Two())
    assert [node.target for node in graph.graph.nodes if node.op == "placeholder"] == ["a", "b"]


def test_capture_leaves_model_and_chance_as_they_were() -> None:
    model = Around(nn.Sequential(Remembers(), Noise(), CoinToss(), nn.BatchNorm2d(3)))
    model.train()
    state, coin = torch.get_rng_state(), random.getstate()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    capture(model)
    remembers = model.get_submodule("inner.0")
    assert isinstance(remembers, Remembers)
    assert (remembers.last, remembers.calls) == (None, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == coin
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_tensors_made_in_a_forward_and_buffers() -> None:
    class Constants(nn.Module):
        weights: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", torch.arange(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weights + torch.tensor([1.0, 2.0, 3.0])

    model = Constants()
    x = torch.randn(2, 3)
    torch.testing.assert_close(capture(model)(x), model(x))
    assert set(model.__dict__) == set(Constants().__dict__)


def test_a_module_used_twice_and_capturing_a_graph_again() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(self.layer(x))
            return y

    graph = capture(Twice())
    assert _leaves(graph) == ["layer", "layer"]
    assert capture(graph) is graph


def test_choices_by_training_mode_are_those_at_capture() -> None:
    class Auxiliary(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x, x * 2) if self.training else x

    model = Auxiliary()
    assert isinstance(capture(model.train())(torch.ones(1)), tuple)
    assert isinstance(capture(model.eval())(torch.ones(1)), Tensor)


def test_error() -> None:
    with pytest.raises(ArgumentError, match=r"model: got 'str', wanted a torch\.nn\.Module"):
        capture("lenet5")  # type: ignore[arg-type]
