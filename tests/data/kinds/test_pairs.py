from __future__ import annotations

import collections
import dataclasses

import pytest
import torch
from tests.data.kinds.some import some_labelled

from convscope.data import Labelled
from convscope.data.kinds.pairs import Pairs, draw_pairs
from convscope.errors import ArgumentError


def faces(sizes: list[int]) -> Labelled:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    images = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return Labelled(images, labels, tuple(map(str, range(len(sizes)))))


def test_a_batch_has_both_pictures() -> None:
    examples = some_labelled()
    pairs = Pairs(examples, torch.tensor([0, 1, 2]), torch.tensor([3, 5, 4]), torch.tensor([True, False, False]))
    batch = pairs.batch(torch.tensor([2, 0]))
    assert torch.equal(batch.inputs[0], examples.images[[2, 0]])
    assert torch.equal(batch.inputs[1], examples.images[[4, 3]])
    assert batch.targets.tolist() == [0, 1]


@pytest.mark.parametrize("count", [1, 7, 60])
def test_half_of_the_pairs_drawn_are_of_one_class_and_none_comes_twice(count: int) -> None:
    examples = faces([10, 4, 1, 7, 2])
    pairs = draw_pairs(examples, count, seed=5)
    assert len(pairs) == count
    assert int(pairs.same.sum()) == count - count // 2
    assert torch.equal(pairs.same, examples.labels[pairs.first] == examples.labels[pairs.second])
    assert (pairs.first != pairs.second).all()
    assert len({frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}) == count
    again = draw_pairs(examples, count, seed=5)
    assert torch.equal(again.first, pairs.first)
    assert count < 7 or not torch.equal(draw_pairs(examples, count, seed=6).first, pairs.first)


def test_every_pair_can_be_drawn() -> None:
    examples = faces([4, 3])  # 9 pairs of one class, 12 of two
    pairs = draw_pairs(examples, 18, seed=1)
    drawn = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    assert sum(int(examples.labels[one]) == int(examples.labels[other]) for one, other in drawn) == 9
    with pytest.raises(ArgumentError, match="count: got 19, .* there are 9 pairs of one class and 12 of two"):
        draw_pairs(examples, 19, seed=1)


def test_pairs_of_one_class_are_drawn_uniformly() -> None:
    examples = faces([5, 3, 2])  # 10, 3 and 1 pairs
    seen: collections.Counter[tuple[int, int]] = collections.Counter()
    for seed in range(400):
        pairs = draw_pairs(examples, 1, seed)
        seen[int(pairs.first), int(pairs.second)] += 1
    assert len(seen) == 14
    assert max(seen.values()) < 55  # 400 / 14 = 29 ± 5.2
    assert min(seen.values()) > 8


def test_what_does_not_fit_together() -> None:
    whole = draw_pairs(some_labelled(), 4, seed=0)
    with pytest.raises(ArgumentError, match=r"second: got 'places 11 … 11', wanted places among 11 examples"):
        dataclasses.replace(whole, second=torch.full((4,), 11))
    with pytest.raises(ArgumentError, match=r"second: got \(3,\), wanted places, int64 \(4,\)"):
        dataclasses.replace(whole, second=whole.second[1:])
    with pytest.raises(ArgumentError, match=r"same: got \(4,\), wanted bool \(4,\)"):
        dataclasses.replace(whole, same=whole.first)
    with pytest.raises(ArgumentError, match=r"folds: got \(2,\), wanted int64 \(4,\)"):
        dataclasses.replace(whole, folds=torch.zeros(2))
    with pytest.raises(ArgumentError, match=r"test: got \(1, 2, 2\), wanted pictures of train's shape, \(3, 6, 7\)"):
        whole.check_test(draw_pairs(faces([3, 3]), 2, seed=0))
