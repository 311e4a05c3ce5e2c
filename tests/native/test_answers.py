"""What a model puts its answers in comes back as torch has it: ordered dicts, dataclasses, one in the other."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn

from convscope import accelerate
from convscope.errors import LoweringError
from convscope.graph import structure
from convscope.lowering.lower import lower

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 8, 8)


@dataclasses.dataclass
class Plain:
    logits: Tensor
    hidden: list[Tensor]
    more: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    one: Tensor
    inner: Plain


@dataclasses.dataclass
class Doubling:
    logits: Tensor

    def __post_init__(self) -> None:
        self.logits = self.logits * 2


@dataclasses.dataclass(init=False)
class OwnConstructor:
    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits - 1


class Named(NamedTuple):
    logits: Tensor
    hidden: tuple[Tensor, ...]


class Heir(Plain):
    """Puts something else in the place of what it is given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(-logits, [])


class Answering(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.head = kind, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.conv(x))
        logits = self.head(hidden)
        if self.kind == "ordered":
            ordered = collections.OrderedDict(out=logits)
            ordered["aux"] = hidden
            return ordered
        if self.kind == "dataclass":
            return Plain(logits, hidden=[hidden])
        if self.kind == "named tuple":
            return Named(logits, hidden=(hidden,))
        if self.kind == "nested":
            return collections.OrderedDict([("b", Frozen(hidden, Plain(logits, []))), ("a", logits * 2)])
        others: dict[str, Any] = {"doubling": Doubling, "own constructor": OwnConstructor, "heir": Heir}
        return others[self.kind](logits)


@pytest.mark.parametrize("kind", ["ordered", "dataclass", "named tuple", "nested"])
@pytest.mark.parametrize("training", [False, True])
def test_answers_and_gradients_are_torchs(kind: str, training: bool) -> None:
    model = randomised(Answering(kind)).train(training)
    x = pictures(5, SHAPE)
    fast = accelerate(model)
    own, right = fast(x), model(x)
    pairs = list(zip(structure.walk(own), structure.walk(right), strict=True))
    assert pairs
    assert type(own) is type(right)
    for (own_path, one), (path, other) in pairs:
        assert own_path == path
        assert (one is None) is (other is None)
        if other is not None:
            assert relative(one, other) < 1e-5
    gradients = [
        torch.autograd.grad([y.sin().sum() for y in structure.tensors(found)], list(model.parameters()))
        for found in (own, right)
    ]
    assert all(relative(*each) < 1e-4 for each in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("kind", "made"),
    [("ordered", "OrderedDict"), ("dataclass", "Plain"), ("named tuple", "Named"), ("nested", "OrderedDict")],
)
def test_what_only_holds_answers_lowers(kind: str, made: str) -> None:
    assert type(lower(Answering(kind), SHAPE).structure).__name__ == made


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["doubling", "own constructor", "heir"])
def test_what_a_constructor_would_change_again_is_refused(kind: str, check: bool) -> None:
    with pytest.raises(LoweringError, match=r"returns a (Doubling|OwnConstructor|Heir)"):
        accelerate(Answering(kind), check=check)(pictures(2, SHAPE))
