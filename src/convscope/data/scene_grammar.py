"""How a scene of digits is described: words, and the order in which they come. All of the grammar is here.

    caption  → digit | digit relation digit | digit relation digit relation digit
    English:   a large 3 left of a small 7 above a small 2
    Chinese:   一个大的3，右边是一个小的7，下边是一个小的2

A description begins with that end of the chain of digits that is further up, of two at one height further left, so that
every scene has one description in each language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from convscope.data.vocabulary import SPECIAL, Cut, Vocabulary
from convscope.errors import ArgumentError, UnknownNameError

Place = tuple[int, int]  # row and column in the grid


@dataclasses.dataclass(frozen=True)
class Digit:
    """``large`` or small, at ``place``."""

    digit: int
    large: bool
    place: Place


@dataclasses.dataclass(frozen=True)
class Language:
    """``relations`` join a digit to the next, by the step (rows, columns) from the one to the other."""

    large: str
    small: str
    relations: dict[Place, str]
    cut: Cut


LANGUAGES = {
    "en": Language(
        "a large {}",
        "a small {}",
        {(0, 1): " left of ", (1, 0): " above ", (0, -1): " right of ", (-1, 0): " below "},
        "words",
    ),
    "zh": Language(
        "一个大的{}",
        "一个小的{}",
        {(0, 1): "，右边是", (1, 0): "，下边是", (0, -1): "，左边是", (-1, 0): "，上边是"},
        "characters",
    ),
}


def language(name: str) -> Language:
    """By its name; UnknownNameError for another than "en" and "zh"."""
    if name not in LANGUAGES:
        raise UnknownNameError("language", name, LANGUAGES)
    return LANGUAGES[name]


def describe(scene: Sequence[Digit], name: str = "en") -> str:
    """The description of a chain of digits, each beside, above or below the one before it in the grid.

    ArgumentError for an empty scene and for neighbours in the chain that are none in the grid.
    """
    words = language(name)
    if not scene:
        raise ArgumentError("scene", "no digits", "at least one")
    chain = sorted((list(scene), list(scene)[::-1]), key=lambda each: each[0].place)[0]
    text = ""
    for number, each in enumerate(chain):
        if number:
            before = chain[number - 1].place
            step = (each.place[0] - before[0], each.place[1] - before[1])
            if step not in words.relations:
                raise ArgumentError("scene", f"{before} and {each.place}", "digits side by side in the grid")
            text += words.relations[step]
        text += (words.large if each.large else words.small).format(each.digit)
    return text


def vocabulary(name: str = "en") -> Vocabulary:
    """All words that descriptions are made of, whichever come in the scenes at hand."""
    words = language(name)
    empty = Vocabulary(SPECIAL, words.cut)
    texts = [words.large.format(""), words.small.format(""), *words.relations.values(), *map(str, range(10))]
    tokens = dict.fromkeys(token for text in texts for token in empty.split(text))
    return Vocabulary((*SPECIAL, *tokens), words.cut)
