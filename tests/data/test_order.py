from __future__ import annotations

import collections
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope import seeding
from convscope.data import Order
from convscope.errors import ArgumentError


def wholes(order: Order) -> list[list[int]]:
    return [order.whole(index).tolist() for index in range(order.count)]


def owns(order: Order) -> list[list[int]]:
    return [order.own(index).tolist() for index in range(order.count)]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def some_lengths(count: int, longest: int = 46) -> torch.Tensor:
    return torch.randint(1, longest + 1, (count,), generator=torch.Generator().manual_seed(count))


def test_the_order_of_a_seed_is_for_ever() -> None:
    """Runs begun by earlier versions go on with exactly these batches."""
    assert wholes(Order(11, 4, 3, 2)) == [[6, 8, 9, 0], [4, 2, 1, 7], [3, 5, 10]]
    assert owns(Order(11, 4, 3, 2, rank=1, world=3)) == [[8], [2], [5]]


def test_a_shuffled_epoch_is_the_permutation_of_its_stream_cut_up() -> None:
    permutation = torch.randperm(33, generator=seeding.generator(1, "shuffle", 0)).tolist()
    order = Order(33, 16, seed=1)
    assert wholes(order) == owns(order) == [permutation[:16], permutation[16:32], permutation[32:]]
    assert [order.size(index) for index in range(3)] == [16, 16, 1]
    assert order.whole(0).dtype == torch.int64
    assert (order.count, len(order), len(Order(33, 16, start=2))) == (3, 3, 1)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = flat(wholes(Order(50, 7, seed=3, epoch=2)))
    assert order == flat(wholes(Order(50, 16, seed=3, epoch=2)))
    assert order != flat(wholes(Order(50, 7, seed=3, epoch=3)))
    assert order != flat(wholes(Order(50, 7, seed=4, epoch=2)))
    assert order != list(range(50))
    assert flat(wholes(Order(50, 7, shuffle=False))) == list(range(50))
    assert flat(wholes(Order(50, 7, shuffle=False, lengths=some_lengths(50)))) == list(range(50))


@given(count=st.integers(1, 90), batch_size=st.integers(1, 40), world=st.integers(1, 5), by_length=st.booleans())
@settings(max_examples=60, deadline=None)
def test_processes_share_out_the_batches_of_one(count: int, batch_size: int, world: int, by_length: bool) -> None:
    if batch_size < world or count < world:
        return
    lengths = some_lengths(count) if by_length else None
    check_shares(count, {"batch_size": batch_size, "lengths": lengths}, world)


@given(count=st.integers(1, 90), more=st.integers(0, 300), world=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_processes_share_out_the_batches_of_one_by_tokens(count: int, more: int, world: int) -> None:
    if count < world:
        return
    lengths = some_lengths(count)
    tokens = int(lengths.max()) + more
    check_shares(count, {"batch_size": None, "lengths": lengths, "tokens": tokens}, world)


def check_shares(count: int, options: dict[str, Any], world: int) -> None:
    together = Order(count, seed=2, world=world, **options)
    assert wholes(together) == wholes(Order(count, seed=2, **options)), "the batches are those of one process"
    shares = [owns(Order(count, seed=2, rank=rank, world=world, **options)) for rank in range(world)]
    assert sorted(flat(wholes(together))) == list(range(count))
    for index, whole in enumerate(wholes(together)):
        parts = [share[index] for share in shares]
        assert flat(parts) == whole
        assert together.size(index) == len(whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("options", [{"batch_size": 8}, {"batch_size": None, "tokens": 200}])
def test_batches_by_length_are_as_many_in_every_epoch_and_each_example_comes_once(options: dict[str, Any]) -> None:
    lengths = some_lengths(501)
    epochs = [Order(501, seed=1, epoch=epoch, lengths=lengths, **options) for epoch in range(4)]
    assert len({order.count for order in epochs}) == 1
    for order in epochs:
        assert sorted(flat(wholes(order))) == list(range(501))
    assert wholes(epochs[0]) != wholes(epochs[1])
    assert wholes(epochs[0]) == wholes(Order(501, seed=1, epoch=0, lengths=lengths, **options))


def padded(order: Order, lengths: torch.Tensor) -> int:
    """Places of all batches, each example as long as its batch's longest."""
    return sum(int(lengths[order.whole(index)].max()) * order.size(index) for index in range(order.count))


def test_batches_by_length_pad_little() -> None:
    lengths = some_lengths(5000)
    needed = int(lengths.sum())
    assert padded(Order(5000, 64, seed=1), lengths) > 1.8 * needed
    assert padded(Order(5000, 64, seed=1, lengths=lengths), lengths) < 1.06 * needed
    assert padded(Order(5000, None, seed=1, lengths=lengths, tokens=2000), lengths) < 1.03 * needed


def test_long_and_short_batches_come_mixed() -> None:
    lengths = some_lengths(5000)
    order = Order(5000, 64, seed=1, lengths=lengths)
    means = [float(lengths[order.whole(index)].float().mean()) for index in range(order.count)]
    halves = sum(means[: len(means) // 2]) / (len(means) // 2), sum(means[len(means) // 2 :]) / (len(means) // 2)
    assert abs(halves[0] - halves[1]) < 6  # sorted they would differ by 23


def test_a_budget_of_tokens_holds_and_is_used() -> None:
    lengths = some_lengths(700)
    order = Order(700, None, seed=1, lengths=lengths, tokens=150)
    sizes = [(int(lengths[order.whole(index)].max()), order.size(index)) for index in range(order.count)]
    assert all(longest * size <= 150 for longest, size in sizes)
    full = [longest * (size + 1) > 150 for longest, size in sizes]
    assert full.count(False) <= 1  # only the last one cut may have room for one more


def test_members_of_token_batches_change_among_those_of_equal_length() -> None:
    lengths = some_lengths(700, longest=5)
    first, second = (
        {frozenset(batch) for batch in wholes(Order(700, None, seed=1, epoch=epoch, lengths=lengths, tokens=50))}
        for epoch in (0, 1)
    )
    assert len(first & second) < len(first) / 10
    profile = [
        collections.Counter(
            tuple(lengths[batch].tolist())
            for batch in wholes(Order(700, None, seed=1, epoch=epoch, lengths=lengths, tokens=50))
        )
        for epoch in (0, 1)
    ]
    assert profile[0] == profile[1]


def test_a_short_last_batch_leaves_processes_without_a_share() -> None:
    lengths = torch.tensor([5, 4, 4, 4, 4, 4, 4, 4, 1])
    alone = Order(9, None, shuffle=False, lengths=lengths, tokens=16)
    assert [len(batch) for batch in wholes(alone)] == [3, 4, 2]  # 3·5 ≤ 16; 4·4; then 7 and 8
    orders = [Order(9, 7, shuffle=False, rank=rank, world=4) for rank in range(4)]
    assert [order.share(1) for order in orders] == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert [order.own(1).tolist() for order in orders] == [[], [7], [], [8]]


def test_moved_to_a_device() -> None:
    order = Order(20, 6, seed=1, rank=1, world=2)
    moved = order.to("meta")
    assert moved.own(1).device.type == "meta"
    assert order.own(1).device.type == "cpu"
    assert (moved.count, moved.rank, moved.start) == (order.count, 1, 0)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None])
def test_bad_batch_size(batch_size: Any) -> None:
    with pytest.raises(ArgumentError, match=r"batch_size: got .*, wanted an integer ≥ 1"):
        Order(5, batch_size)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="examples: got 0, wanted at least one example"):
        Order(0, 4)
    with pytest.raises(ArgumentError, match="rank: got 2, wanted a process number"):
        Order(5, 4, rank=2, world=2)
    with pytest.raises(ArgumentError, match="batch_size: got 2, wanted at least one example for each of the 3"):
        Order(5, 2, world=3)
    with pytest.raises(ArgumentError, match="start: got 4, wanted a batch number from 0 to 3"):
        Order(5, 2, start=4)
    with pytest.raises(ArgumentError, match="world: got 6, wanted at most as many processes as examples, 5"):
        Order(5, 6, world=6)
    with pytest.raises(ArgumentError, match=r"lengths: got \(4,\), wanted one for each of the 5 examples"):
        Order(5, 2, lengths=torch.ones(4, dtype=torch.int64))


def test_bad_budgets() -> None:
    lengths = torch.tensor([3, 9, 2])
    with pytest.raises(ArgumentError, match="tokens: got 100, wanted examples that have lengths"):
        Order(3, None, tokens=100)
    with pytest.raises(ArgumentError, match="batch_size: got 4, wanted None beside tokens"):
        Order(3, 4, tokens=100, lengths=lengths)
    with pytest.raises(ArgumentError, match="tokens: got 8, wanted room for the longest example, 9 tokens"):
        Order(3, None, tokens=8, lengths=lengths)
    with pytest.raises(ArgumentError, match="world: got 4, wanted at most as many processes as examples, 3"):
        Order(3, None, tokens=90, lengths=lengths, world=4)
