"""From scores to texts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from convscope.rules.ctc import CTCLoss
from convscope.tasks.lines.decoding import alignment, beam, edits, greedy


def drawn(time: int, classes: int, seed: int) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.log_softmax(1.5 * torch.randn(time, classes, generator=chance, dtype=torch.float64), 1)


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(each for each, _ in itertools.groupby(path) if each)


def test_greedy_takes_out_repeats_then_blanks() -> None:
    scores = torch.nn.functional.one_hot(torch.tensor([0, 2, 2, 0, 2, 1, 1, 0]), 3).double()
    assert greedy(scores) == [2, 2, 1]
    assert greedy(scores[:1]) == []
    assert greedy(scores[:0]) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_is_an_exhaustive_search(seed: int) -> None:
    y = drawn(5, 3, seed)
    chances: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=5):
        chance = math.exp(sum(float(y[step, each]) for step, each in enumerate(path)))
        chances[collapsed(path)] = chances.get(collapsed(path), 0.0) + chance
    best = max(chances, key=chances.__getitem__)
    found, logarithm = beam(y, 1000)
    assert tuple(found) == best
    assert math.exp(logarithm) == pytest.approx(chances[best], rel=1e-12)
    loss, _ = CTCLoss(reduction="none").forward(y, torch.tensor(found), torch.tensor(5), torch.tensor(len(found)))
    assert -logarithm == pytest.approx(float(loss), rel=1e-12)


def test_a_beam_finds_what_the_likeliest_path_misses() -> None:
    """Blank is likeliest at each step, and yet "1" has more paths than nothing."""
    y = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy(y) == []
    text, logarithm = beam(y, 4)
    assert text == [1]
    assert logarithm == pytest.approx(math.log(1 - 0.36))


def test_edits_by_recursion() -> None:
    def slowly(one: str, other: str) -> int:
        if not one or not other:
            return len(one) + len(other)
        change = slowly(one[1:], other[1:]) + (one[0] != other[0])
        return min(change, slowly(one[1:], other) + 1, slowly(one, other[1:]) + 1)

    words = ["", "a", "abc", "acb", "bca", "aabb", "cab"]
    for one, other in itertools.product(words, repeat=2):
        assert edits(one, other) == slowly(one, other), (one, other)


@pytest.mark.parametrize("text", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_the_alignment_is_the_likeliest_path_of_its_text(text: list[int]) -> None:
    y = drawn(6, 3, len(text))
    paths = [path for path in itertools.product(range(3), repeat=6) if list(collapsed(path)) == text]
    best = max(paths, key=lambda path: sum(float(y[step, each]) for step, each in enumerate(path)))
    spans, start = [], 0
    for each, group in itertools.groupby(best):
        count = len(list(group))
        spans += [(start, start + count - 1)] if each else []
        start += count
    assert alignment(y, text) == spans


def test_a_text_without_room_has_no_alignment() -> None:
    assert alignment(drawn(2, 3, 1), [1, 1]) is None
    assert alignment(drawn(2, 3, 1), []) == []
