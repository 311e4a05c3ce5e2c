from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.data import Batches, Labelled
from convscope.data.augment import parse_augmentation
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing


def numbered(count: int) -> Labelled:
    """Picture k is full of k, its label k modulo 5."""
    values = torch.arange(count)
    images = values.to(torch.uint8).reshape(count, 1, 1, 1).repeat(1, 1, 6, 8)
    return Labelled(images, values % 5, tuple("abcde"))


def seen(batches: Batches) -> list[int]:
    return [int(value) for images, _ in batches for value in images[:, 0, 0, 0]]


def test_every_picture_once_with_its_label_and_a_ragged_last_batch() -> None:
    batches = Batches(numbered(33), 16, seed=1)
    sizes = []
    for images, labels in batches:
        assert images.dtype == torch.uint8
        assert torch.equal(images[:, 0, 0, 0].long() % 5, labels)
        sizes.append(len(labels))
    assert sizes == [16, 16, 1]
    assert len(batches) == 3
    assert sorted(seen(batches)) == list(range(33))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = seen(Batches(numbered(50), 7, seed=3, epoch=2))
    assert order == seen(Batches(numbered(50), 7, seed=3, epoch=2))
    assert order == seen(Batches(numbered(50), 16, seed=3, epoch=2))
    assert order != seen(Batches(numbered(50), 7, seed=3, epoch=3))
    assert order != seen(Batches(numbered(50), 7, seed=4, epoch=2))
    assert order != list(range(50))
    assert seen(Batches(numbered(50), 7, shuffle=False)) == list(range(50))


@pytest.mark.parametrize("augment", [None, "crop:2,flip", "rotate:10,elastic:10:2"])
def test_starting_in_mid_epoch_continues_exactly(augment: str | None) -> None:
    whole = list(Batches(numbered(50), 8, seed=5, epoch=1, augment=augment))
    rest = list(Batches(numbered(50), 8, seed=5, epoch=1, augment=augment, start=4))
    assert len(rest) == len(whole) - 4
    for (images, labels), (wanted_images, wanted_labels) in zip(rest, whole[4:], strict=True):
        assert torch.equal(images, wanted_images)
        assert torch.equal(labels, wanted_labels)
    assert list(Batches(numbered(50), 8, start=7)) == []


@given(count=st.integers(1, 90), batch_size=st.integers(1, 40), world=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_processes_share_out_the_batches_of_one(count: int, batch_size: int, world: int) -> None:
    if batch_size < world or count < world:
        return
    alone = [images[:, 0, 0, 0].tolist() for images, _ in Batches(numbered(count), batch_size, seed=2)]
    shares = [
        [
            images[:, 0, 0, 0].tolist()
            for images, _ in Batches(numbered(count), batch_size, seed=2, rank=rank, world=world)
        ]
        for rank in range(world)
    ]
    steps = len(shares[0])
    assert all(len(share) == steps for share in shares)
    assert steps in (len(alone), len(alone) - 1)
    for step in range(steps):
        parts = [share[step] for share in shares]
        assert [value for part in parts for value in part] == alone[step]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) >= 1
    if steps < len(alone):
        assert len(alone[-1]) < world


def test_indices_are_those_of_the_batches() -> None:
    batches = Batches(numbered(20), 6, seed=1, rank=1, world=2)
    for index, (images, _) in enumerate(batches):
        assert images[:, 0, 0, 0].tolist() == batches.indices(index).tolist()
    assert [batches.global_size(index) for index in range(4)] == [6, 6, 6, 2]


def test_preparing_and_augmenting_a_batch() -> None:
    preprocessing = Preprocessing(3, (16, 16), (0.5,) * 3, (0.2,) * 3, "pad")
    images, _ = next(iter(Batches(numbered(20), 6, preprocessing=preprocessing, augment=["translate:1"])))
    assert images.shape == (6, 3, 16, 16)
    parsed = parse_augmentation("translate:1")
    assert Batches(numbered(20), 6, augment=parsed).augment is parsed


def test_moving_to_a_device() -> None:
    for images, labels in Batches(numbered(5), 2, device="meta"):
        assert images.device.type == labels.device.type == "meta"


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_bad_batch_size(batch_size: int) -> None:
    with pytest.raises(ArgumentError, match=r"batch_size: got .*, wanted an integer ≥ 1"):
        Batches(numbered(5), batch_size)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="rank: got 2, wanted a process number"):
        Batches(numbered(5), 4, rank=2, world=2)
    with pytest.raises(ArgumentError, match="batch_size: got 2, wanted at least one picture for each of the 3"):
        Batches(numbered(5), 2, world=3)
    with pytest.raises(ArgumentError, match="start: got 4, wanted a batch number from 0 to 3"):
        Batches(numbered(5), 2, start=4)
    with pytest.raises(ArgumentError, match="world: got 6, wanted at most as many processes as pictures, 5"):
        Batches(numbered(5), 6, world=6)
    with pytest.raises(ArgumentError, match="split: got 'no pictures'"):
        Batches(numbered(5).select(torch.tensor([], dtype=torch.int64)), 2)
