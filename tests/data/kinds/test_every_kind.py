"""What the training loop relies on, of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.data.kinds.some import KINDS

from convscope.data import Batch, Dataset, Examples, Feed, Order
from convscope.errors import ArgumentError


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def examples(name: str, tmp_path: Path) -> Examples:
    return KINDS[name](tmp_path)


def alike(first: Batch, second: Batch) -> bool:
    pairs = list(zip(first.tensors(), second.tensors(), strict=True))
    same = all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)
    return same and (first.examples, first.weight) == (second.examples, second.weight)


def test_it_is_what_the_loop_asks_for(name: str, examples: Examples) -> None:
    assert isinstance(examples, Examples)
    assert name.startswith(examples.kind)
    assert examples.on_disk is (name.endswith(("on disk", "files", "array")))
    assert examples.lengths is None or examples.lengths.shape == (len(examples),)


def test_a_batch_counts_itself_as_its_indices_say(examples: Examples) -> None:
    indices = torch.tensor([7, 0, 3, 3, len(examples) - 1])
    batch = examples.batch(indices)
    assert batch.examples == 5
    assert all(len(each) == 5 for each in batch.inputs)
    assert isinstance(batch.weight, float)
    assert batch.weight == examples.weight(indices)
    assert batch.weight > 0


def test_selected_examples_are_those_at_their_places(examples: Examples) -> None:
    places = torch.tensor([9, 2, 2, 5])
    selected = examples.select(places)
    assert len(selected) == 4
    assert alike(selected.batch(torch.arange(4)), examples.batch(places))
    assert alike(selected.select(torch.tensor([3, 1])).batch(torch.tensor([1])), examples.batch(torch.tensor([2])))
    if examples.lengths is not None:
        assert selected.lengths is not None
        assert selected.lengths.tolist() == examples.lengths[places].tolist()


def test_the_fingerprint_tells_examples_apart(examples: Examples) -> None:
    everything = torch.arange(len(examples))
    assert examples.fingerprint() == examples.select(everything).fingerprint()
    assert examples.fingerprint() != examples.select(everything.flip(0)).fingerprint()
    assert examples.fingerprint() != examples.select(everything[1:]).fingerprint()
    assert examples.fingerprint() != examples.fingerprint(5)


def test_the_description_is_json_and_begins_with_the_number(examples: Examples) -> None:
    described = json.loads(json.dumps(examples.describe()))
    assert next(iter(described.values())) == len(examples)


def test_processes_share_weights_as_they_share_examples(examples: Examples) -> None:
    feeds = [Feed(examples, Order(len(examples), 4, seed=1, rank=rank, world=2)) for rank in range(2)]
    for index, shares in enumerate(zip(*feeds, strict=True)):
        count, weight = feeds[0].whole(index)
        assert sum(share.examples for share in shares) == count
        assert sum(share.weight for share in shares) == pytest.approx(weight)


def test_a_data_set_of_the_kind(name: str, examples: Examples) -> None:
    data = Dataset("few", examples.select(torch.arange(8)), examples.select(torch.arange(8, len(examples))))
    assert data.kind == examples.kind
    noun = next(iter(examples.describe()))
    assert data.describe()[f"train_{noun}"] == 8
    if examples.kind not in ("sentences", "parallel", "lines"):
        assert len(data.mean) == len(data.std) == 3
        assert data.preprocessing((4, 4)).size == (4, 4)


@pytest.mark.parametrize("kind", ["boxes", "maps", "captions"])
def test_on_disk_as_in_memory(kind: str, tmp_path: Path) -> None:
    memory, disk = KINDS[kind](tmp_path / "a"), KINDS[f"{kind} on disk"](tmp_path / "b")
    indices = torch.tensor([4, 10, 0])
    assert alike(memory.batch(indices), disk.batch(indices))
    assert memory.fingerprint() == disk.fingerprint()
    assert memory.describe() == disk.describe()


@pytest.mark.parametrize("form", ["files", "array"])
def test_labelled_on_disk_as_in_memory(form: str, tmp_path: Path) -> None:
    memory, disk = KINDS["labelled"](tmp_path), KINDS[f"labelled {form}"](tmp_path)
    indices = torch.tensor([4, 10, 0])
    assert alike(memory.batch(indices), disk.batch(indices))
    assert memory.fingerprint(3) == disk.fingerprint(3)
    assert memory.describe() == disk.describe()
    mixed = Dataset("mixed", disk, memory)
    assert (mixed.mean, mixed.std) == (Dataset("memory", memory, memory).mean, Dataset("disk", disk, disk).std)


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="test: got 'maps', wanted examples of train's kind, boxes"):
        Dataset("mixed", KINDS["boxes"](tmp_path), KINDS["maps"](tmp_path))
