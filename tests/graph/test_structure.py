"""Sizes, inputs and outputs of every form in a captured graph."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tests.graph.cases import (
    X,
    calls,
)
from torch import Tensor, nn

from convscope.graph.capture import capture, record
from convscope.graph.sizes import SizesChangedError
from convscope.graph.structure import is_record, leaves


def test_sizes_are_followed_and_comparisons_of_sizes_hold() -> None:
    class Shapes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            if h % 2:
                x = F.pad(x, (0, 0, 0, 1))
            y = x.view(n, c // 3, 3, -1).mean(2).reshape(x.size(0), -1)
            z: Tensor = y / (h * w) ** 0.5 + torch.arange(y.shape[-1])
            return z

    model = Shapes()
    graph = capture(model, X)
    for shape in ((2, 3, 5, 4), (7, 6, 3, 2), (1, 3, 9, 9)):
        x = torch.randn(shape)
        torch.testing.assert_close(graph(x), model(x))
    with pytest.raises(SizesChangedError, match="0 = 0 did not hold before|0 ≠ 0 held before"):
        graph(torch.randn(2, 3, 4, 4))


def test_sizes_are_numbers_like_any_other() -> None:
    import copy
    import json
    import pickle

    class Measures(nn.Module):
        def forward(self, x: Tensor) -> Any:
            size = x.shape[1]
            assert isinstance(size, int)
            assert f"{size:03d}" == "003"
            assert [*range(size)] == [0, 1, 2]
            assert max(size, 2) == 3
            assert {3: "c"}[size] == "c"
            return x, size, x.shape[0] / x.size(1)

    kept: list[Any] = []
    record(Measures(), (X,), look=lambda result, leaves: kept.extend(result[1:]))
    size, quotient = kept
    assert type(size + 1) is int
    assert json.dumps(size) == "3"
    assert type(pickle.loads(pickle.dumps(size))) is int
    assert type(copy.deepcopy(quotient)) is float
    assert size == 3
    assert size < 4


class Pair(NamedTuple):
    one: Tensor
    two: Tensor


@dataclasses.dataclass
class Record:
    logits: Tensor
    parts: list[Tensor]


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: (a, [b, a]), lambda a, b: {"a": a, "more": {"b": b}}, Pair, lambda a, b: Record(a, [b, a + b]),
        lambda a, b: collections.OrderedDict(first=a, second=b), lambda a, b: torch.max(a, 1),
        lambda a, b: (a, None, 3, "words"),
    ],
)  # fmt: skip
def test_outputs_of_any_structure(build: Callable[[Tensor, Tensor], Any]) -> None:
    from convscope.graph import structure

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return build(x * 2, x.relu())

    x = torch.randn(2, 3)
    graph = capture(Net(), x)
    found, wanted = graph(x), Net()(x)
    assert type(found) is type(wanted)
    for one, other in zip(structure.leaves(found), structure.leaves(wanted), strict=True):
        assert torch.equal(one, other) if isinstance(other, Tensor) else one == other
    assert calls(graph)


def test_inputs_of_any_structure() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, pairs: list[Tensor], *more: Tensor, scale: float = 1.0, **named: Any) -> Tensor:
            y = x * scale + pairs[0] - pairs[1] + sum(more)
            return y + named["mask"]["inner"] if "mask" in named else y

    x = torch.randn(2, 3)
    given = (x, [x + 1, x * 3], x, x)
    named = {"scale": 2.0, "mask": {"inner": torch.ones(3)}}
    graph = capture(Net(), *given, **named)
    names = [node.target for node in graph.graph.nodes if node.op == "placeholder"]
    assert names == ["x", "pairs", "more_0", "more_1", "mask", "scale"]
    torch.testing.assert_close(graph(*given, mask=named["mask"]), Net()(*given, **named))


def test_integers_go_in() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2))
    tokens = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    assert torch.equal(capture(model, tokens)(tokens), model(tokens))


@dataclasses.dataclass
class Halving:
    whole: int

    def __post_init__(self) -> None:
        self.whole //= 2


@dataclasses.dataclass
class Checking:
    whole: list[int]
    count: int | None = None

    def __post_init__(self) -> None:
        self.whole, self.count = list(self.whole), len(self.whole)


@dataclasses.dataclass(init=False)
class Other:
    whole: int

    def __init__(self, other: int) -> None:
        self.whole = other


def test_a_record_is_what_its_constructor_makes_anew() -> None:
    assert is_record(Checking([1, 2]))
    assert leaves(Checking([1, 2])) == [1, 2, 2]
    assert is_record(Halving(0))  # half of nothing is nothing
    for other in (Halving(4), Other(4), Halving):
        assert not is_record(other)
        assert leaves(other) == [other]
