"""Sentences with their classes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.classes import check_names, check_numbers, check_same, renumbering
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import PADDING, Vocabulary
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sentences:
    """Rows of token numbers of one class each; each weighs 1.

    A batch's inputs are the tokens, int64 (n, longest), shorter ones filled up behind with the vocabulary's padding, 0,
    and their lengths, int64 (n,); its targets the class numbers, int64 (n,). ``texts`` are the sentences as written.
    """

    kind: ClassVar[str] = "sentences"
    on_disk: ClassVar[bool] = False

    texts: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    vocabulary: Vocabulary
    tokens: Ragged = None  # type: ignore[assignment]  # left out: those of ``texts``

    def __post_init__(self) -> None:
        check_names(self.classes)
        check_numbers(self.labels, self.classes)
        if self.tokens is None:
            object.__setattr__(self, "tokens", Ragged.of(map(self.vocabulary.encode, self.texts)))
        if not len(self.texts) == len(self.labels) == len(self.tokens):
            raise ArgumentError("labels", len(self.labels), f"one for each of the {len(self.texts)} sentences")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Sentences({len(self)} sentences, {len(self.classes)} classes, {len(self.vocabulary)} tokens)"

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sentence, int64 (n,)."""
        return self.tokens.lengths

    def batch(self, indices: Tensor) -> Batch:
        """Tokens (n, t) with their lengths (n,), and class numbers (n,)."""
        return Batch(self.tokens.padded(indices, PADDING), self.labels[indices], len(indices), float(len(indices)))

    def weight(self, indices: Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def select(self, indices: Tensor) -> Sentences:
        """The sentences at ``indices``, in that order."""
        texts = tuple(self.texts[index] for index in indices.tolist())
        return dataclasses.replace(self, texts=texts, labels=self.labels[indices], tokens=self.tokens.select(indices))

    def restrict(self, classes: Sequence[str]) -> Sentences:
        """Only the sentences of ``classes``, numbered anew in that order."""
        labels = renumbering(self.classes, classes)[self.labels]
        kept = self.select(torch.nonzero(labels >= 0).flatten())
        return dataclasses.replace(kept, labels=labels[labels >= 0], classes=tuple(classes))

    def counts(self) -> list[int]:
        """Number of sentences of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all tokens, lengths and classes."""
        for tensor in (self.tokens.offsets, self.tokens.values, self.labels):
            checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
        return checksum

    def describe(self) -> dict[str, Any]:
        """{"sentences": their number, "classes": the names, "vocabulary": its size}."""
        return {"sentences": len(self), "classes": list(self.classes), "vocabulary": len(self.vocabulary)}

    def check_test(self, test: Sentences) -> None:
        """ArgumentError where ``test`` has other classes or another vocabulary."""
        check_same(self.classes, test.classes)
        if self.vocabulary != test.vocabulary:
            raise ArgumentError("test", test.vocabulary, f"the vocabulary of train, {self.vocabulary}")
