"""Vocabularies: from texts to numbers and back."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from convscope.errors import ArgumentError

Cut = Literal["words", "spaces", "characters", "clean"]
PADDING, UNKNOWN, START, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
# A word may hold apostrophes and hyphens ("don't", "dark-haired"); any other mark is a token of its own.
_WORD = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")
# What Kim 2014 reads of a review: all else is a space, and what hangs on a word by an apostrophe is a token of its own.
_UNCLEAN, _HANGING, _MARKS = (
    re.compile(r"[^A-Za-z0-9(),!?'`]"),
    re.compile(r"'(?:s|ve|re|d|ll)|n't"),
    re.compile(r"[,!()?]"),
)
_CLOSING = frozenset(".,;:!?)]}%»”’'…")
_OPENING = frozenset("([{«“‘$#")


def tokens_of(numbers: Sequence[int] | Tensor, tokens: Sequence[str]) -> list[str]:
    """The tokens of ``numbers`` up to the first ``END``, padding and start left out; ``tokens`` are all there are.
    ArgumentError for a number that no token has."""
    found: list[str] = []
    for number in numbers.tolist() if isinstance(numbers, Tensor) else numbers:
        if not 0 <= number < len(tokens):
            raise ArgumentError("numbers", number, f"numbers of tokens, 0 … {len(tokens) - 1}")
        if number == END:
            break
        if number not in (PADDING, START):
            found.append(tokens[number])
    return found


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens and their numbers; a token's number is its place in ``tokens``.

    The first four are special: 0 fills up short rows, 1 stands for every token that is not known, 2 and 3 are put
    before and behind a text where a model needs to know its ends. How texts are cut belongs to it: "words" (words and
    marks), "spaces" (at white space), "characters", "clean" (as Kim 2014: only Latin letters, digits and
    ``( ) , ! ? ' ` `` are read, and 's, 've, 're, 'd, 'll and n't are apart from their words); with ``lower`` in small
    letters.
    """

    tokens: tuple[str, ...]
    cut: Cut = "words"
    lower: bool = False

    def __post_init__(self) -> None:
        if self.cut not in get_args(Cut):
            raise ArgumentError("cut", self.cut, f"one of {', '.join(get_args(Cut))}")
        if self.tokens[: len(SPECIAL)] != SPECIAL:
            raise ArgumentError("tokens", self.tokens[: len(SPECIAL)], f"{', '.join(SPECIAL)} first")
        if len(set(self.tokens)) != len(self.tokens):
            twice = next(token for token, count in collections.Counter(self.tokens).items() if count > 1)
            raise ArgumentError("tokens", twice, "every token once")

    @classmethod
    def build(
        cls, texts: Iterable[str], least: int = 1, most: int | None = None, *, cut: Cut = "words", lower: bool = False
    ) -> Vocabulary:
        """The tokens that come at least ``least`` times in ``texts``, at most ``most`` of them (the special ones not
        counted): the most frequent first, equally frequent ones by the alphabet."""
        if not isinstance(least, int) or least < 1:
            raise ArgumentError("least", least, "an integer ≥ 1")
        if most is not None and (not isinstance(most, int) or most < 1):
            raise ArgumentError("most", most, "an integer ≥ 1, or None for no limit")
        empty = cls(SPECIAL, cut, lower)
        counts = collections.Counter(token for text in texts for token in empty.split(text))
        for token in SPECIAL:
            counts.pop(token, None)
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return cls((*SPECIAL, *[token for token in ranked if counts[token] >= least][:most]), cut, lower)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, cut={self.cut!r})"

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    def split(self, text: str) -> list[str]:
        """The tokens of ``text``, known or not."""
        text = text.lower() if self.lower else text
        if self.cut == "characters":
            return list(text)
        if self.cut == "clean":
            apart = _HANGING.sub(r" \g<0>", _UNCLEAN.sub(" ", text))
            return _MARKS.sub(r" \g<0> ", apart).split()
        return text.split() if self.cut == "spaces" else _WORD.findall(text)

    def encode(self, text: str) -> list[int]:
        """The numbers of the tokens of ``text``, ``UNKNOWN`` for those that are not known, without ends. A text cannot
        spell a special token: "<pad>" in it is unknown."""
        numbers = self.numbers
        found = (numbers.get(token, UNKNOWN) for token in self.split(text))
        return [number if number >= len(SPECIAL) else UNKNOWN for number in found]

    def decode(self, numbers: Sequence[int] | Tensor) -> str:
        """A text of the tokens up to the first ``END``, padding and start left out. Words come with single spaces
        between them, marks close to their words. ArgumentError for a number that no token has."""
        return self.join(tokens_of(numbers, self.tokens))

    def join(self, tokens: Sequence[str]) -> str:
        """A text of ``tokens``: the opposite of ``split``, but for white space."""
        if self.cut != "words":
            return ("" if self.cut == "characters" else " ").join(tokens)
        text = ""
        close = True  # the next token follows without a space
        for token in tokens:
            text += token if close or token in _CLOSING else f" {token}"
            close = token in _OPENING
        return text

    def to_json(self) -> dict[str, Any]:
        """For model files: {"format", "tokens", "cut", "lower"}."""
        return {"format": 1, "tokens": list(self.tokens), "cut": self.cut, "lower": self.lower}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Vocabulary:
        """What ``to_json`` gave; ArgumentError for anything else."""
        tokens = value.get("tokens")
        if (
            value.get("format") != 1
            or not isinstance(tokens, list)
            or not all(isinstance(each, str) for each in tokens)
        ):
            raise ArgumentError("vocabulary", sorted(value), 'format 1 with a list of "tokens"')
        return cls(tuple(tokens), value.get("cut", "words"), bool(value.get("lower", False)))
