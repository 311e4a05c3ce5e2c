"""Byte-pair encoding: words in pieces that come often, learned from texts (Sennrich, Haddow, Birch 2016)."""

from __future__ import annotations

import dataclasses
import functools
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from convscope.data.vocabulary import SPECIAL, UNKNOWN, tokens_of
from convscope.errors import ArgumentError

_SPACE = "▁"  # at the beginning of a word's first piece


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """Pieces of words and their numbers; a piece's number is its place in ``tokens``, the first four are special as in
    ``Vocabulary``. ``merges`` are pairs of pieces, "a b", in the order in which they are put together. A character that
    no training text had is unknown. Marks are pieces of their own.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIAL)] != SPECIAL:
            raise ArgumentError("tokens", self.tokens[: len(SPECIAL)], f"{', '.join(SPECIAL)} first")
        known = set(self.tokens)
        for merge in self.merges:
            one, _, other = merge.partition(" ")
            if not {one, other, one + other} <= known:
                raise ArgumentError("merges", merge, "two pieces that are tokens, as is what they make")

    @classmethod
    def learn(cls, texts: Iterable[str], pieces: int) -> BytePairs:
        """At most ``pieces`` tokens, special ones and single characters counted, from ``texts``; the same texts give
        the same pieces."""
        if not isinstance(pieces, int) or isinstance(pieces, bool) or pieces < len(SPECIAL) + 1:
            raise ArgumentError("pieces", pieces, f"an integer > {len(SPECIAL)}")
        library = _library()
        tokenizer = _tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
        trainer = library.trainers.BpeTrainer(
            vocab_size=pieces, special_tokens=list(SPECIAL), show_progress=False, min_frequency=2
        )
        tokenizer.train_from_iterator(map(_plain, texts), trainer)
        found = json.loads(tokenizer.to_str())["model"]
        numbers: dict[str, int] = found["vocab"]
        merges = [each if isinstance(each, str) else " ".join(each) for each in found["merges"]]
        return cls(tuple(sorted(numbers, key=numbers.__getitem__)), tuple(merges))

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"BytePairs({len(self)} tokens)"

    @functools.cached_property
    def _encoder(self) -> Any:
        library = _library()
        numbers = {token: number for number, token in enumerate(self.tokens)}
        pairs = [tuple(each.split(" ")) for each in self.merges]
        return _tokenizer(library.models.BPE(numbers, pairs, unk_token=SPECIAL[UNKNOWN]))

    def split(self, text: str) -> list[str]:
        """The pieces of ``text``; unknown characters as they are."""
        plain = _plain(text)
        encoding = self._encoder.encode(plain, add_special_tokens=False)
        pieces = zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        return [plain[slice(*place)] if number == UNKNOWN else token for number, token, place in pieces]

    def encode(self, text: str) -> list[int]:
        """The numbers of the pieces of ``text``, without ends; ``UNKNOWN`` for characters that are not known."""
        found: list[int] = self._encoder.encode(_plain(text), add_special_tokens=False).ids
        return found

    def decode(self, numbers: Sequence[int] | Tensor) -> str:
        """The text of the pieces up to the first ``END``, padding and start left out. ArgumentError for a number that
        no piece has."""
        return self.join(tokens_of(numbers, self.tokens))

    def join(self, tokens: Sequence[str]) -> str:
        """A text of ``tokens``: the opposite of ``split``."""
        return "".join(tokens).replace(_SPACE, " ").strip()

    def to_json(self) -> dict[str, Any]:
        """For model files: {"format", "tokens", "merges"}."""
        return {"format": 1, "tokens": list(self.tokens), "merges": list(self.merges)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BytePairs:
        """What ``to_json`` gave; ArgumentError for anything else."""
        lists = [value.get(name) for name in ("tokens", "merges")]
        if value.get("format") != 1 or not all(isinstance(each, list) for each in lists):
            raise ArgumentError("byte pairs", sorted(value), 'format 1 with lists of "tokens" and "merges"')
        return cls(*(tuple(map(str, each)) for each in lists))  # type: ignore[arg-type]  # checked above


def _plain(text: str) -> str:
    """Composed characters, single spaces; the sign that stands for a space is none of the text's own."""
    return " ".join(unicodedata.normalize("NFC", text).replace(_SPACE, "_").split())


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ArgumentError("pieces", "byte pairs", "the package tokenizers", "Install convscope[text]") from error
    return tokenizers


def _tokenizer(model: Any) -> Any:
    library = _library()
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(
        [library.pre_tokenizers.Metaspace(_SPACE), library.pre_tokenizers.Punctuation("isolated")]
    )
    return tokenizer
