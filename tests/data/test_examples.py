from __future__ import annotations

import collections
import dataclasses
from typing import Any

import pytest
import torch

from convscope.data import Batch, Examples, Labelled
from convscope.data.examples import device_of
from convscope.errors import ArgumentError

Sizes = collections.namedtuple("Sizes", ["height", "width"])


@dataclasses.dataclass(frozen=True)
class Regions:
    boxes: torch.Tensor
    names: tuple[str, ...]


def structured() -> Any:
    return {
        "tuple": (torch.tensor([1]), None, 7, "name"),
        "list": [torch.tensor([2]), 0.5],
        "named": Sizes(torch.tensor([3]), torch.tensor([4])),
        "page": Regions(torch.tensor([5]), ("cat",)),
    }


def test_a_batch_maps_every_tensor_wherever_it_is() -> None:
    batch = Batch((torch.tensor([10]), torch.tensor([20])), structured(), 1, 3.0)
    doubled = batch.map(lambda tensor: tensor * 2)
    assert [int(tensor) for tensor in doubled.inputs] == [20, 40]
    assert doubled.targets["tuple"] == (torch.tensor([2]), None, 7, "name")
    assert doubled.targets["list"] == [torch.tensor([4]), 0.5]
    assert doubled.targets["named"] == Sizes(torch.tensor([6]), torch.tensor([8]))
    assert doubled.targets["page"] == Regions(torch.tensor([10]), ("cat",))
    assert isinstance(doubled.targets["named"], Sizes)
    assert (doubled.examples, doubled.weight) == (1, 3.0)
    assert [int(tensor) for tensor in batch.tensors()] == [10, 20, 1, 2, 3, 4, 5]
    assert [int(tensor) for tensor in doubled.tensors()] == [20, 40, 2, 4, 6, 8, 10]


def test_a_batch_without_targets() -> None:
    batch = Batch((torch.tensor([1]),), None, 1, 1.0).map(lambda tensor: tensor + 1)
    assert batch.targets is None
    assert int(batch.inputs[0]) == 2


@pytest.mark.parametrize("target", [object(), {torch.tensor(1)}, Regions])
def test_what_could_hide_a_tensor_is_refused(target: object) -> None:
    with pytest.raises(ArgumentError, match="targets: got .*, wanted tensors in tuples, lists, dicts or dataclasses"):
        Batch((), target, 1, 1.0).map(lambda tensor: tensor)


def test_labelled_pictures_are_examples() -> None:
    labelled = Labelled(torch.zeros((3, 1, 2, 2), dtype=torch.uint8), torch.tensor([0, 1, 0]), ("a", "b"))
    assert isinstance(labelled, Examples)
    assert device_of(labelled) == torch.device("cpu")
