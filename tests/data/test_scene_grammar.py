"""The grammar of scenes: one description a scene, of words that are all known."""

from __future__ import annotations

import itertools

import pytest

from convscope.data.scene_grammar import LANGUAGES, Digit, Place, describe, vocabulary
from convscope.data.vocabulary import UNKNOWN
from convscope.errors import ArgumentError, UnknownNameError


def chains(count: int) -> list[tuple[Place, ...]]:
    grid = [(row, column) for row in range(3) for column in range(3)]
    near = itertools.permutations(grid, count)
    return [each for each in near if all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(each))]


def test_by_hand() -> None:
    scene = [Digit(3, True, (0, 0)), Digit(7, False, (0, 1)), Digit(2, False, (1, 1))]
    assert describe(scene) == "a large 3 left of a small 7 above a small 2"
    assert describe(scene, "zh") == "一个大的3，右边是一个小的7，下边是一个小的2"
    assert describe(scene[1:2]) == "a small 7"
    bent = [Digit(1, True, (1, 0)), Digit(2, True, (0, 0)), Digit(3, True, (0, 1))]
    assert describe(bent) == "a large 3 right of a large 2 above a large 1"


@pytest.mark.parametrize("name", LANGUAGES)
def test_from_either_end_the_same_and_all_words_known(name: str) -> None:
    known = vocabulary(name)
    for count in (1, 2, 3):
        for chain in chains(count):
            scene = [Digit(4 + number, number % 2 == 0, place) for number, place in enumerate(chain)]
            text = describe(scene, name)
            assert text == describe(scene[::-1], name)
            assert UNKNOWN not in known.encode(text)
            assert known.decode(known.encode(text)) == text


def test_different_scenes_are_told_apart() -> None:
    """Whatever differs in digits, sizes or the steps between neighbours."""
    texts = {describe([Digit(1, True, a), Digit(2, True, b)]) for a, b in chains(2)}
    assert texts == {
        "a large 1 left of a large 2", "a large 2 left of a large 1",
        "a large 1 above a large 2", "a large 2 above a large 1",
    }  # fmt: skip


def test_what_is_no_scene_is_refused() -> None:
    with pytest.raises(ArgumentError, match="scene: got 'no digits', wanted at least one"):
        describe([])
    with pytest.raises(ArgumentError, match="digits side by side in the grid"):
        describe([Digit(1, True, (0, 0)), Digit(2, True, (1, 1))])
    with pytest.raises(UnknownNameError, match="language: got 'de'"):
        describe([Digit(1, True, (0, 0))], "de")
