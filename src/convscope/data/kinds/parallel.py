"""Sentences with their translations."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.byte_pairs import BytePairs
from convscope.data.examples import Batch
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import END, PADDING, START, Vocabulary
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Parallel:
    """Sentences in two languages; a batch weighs as many as the tokens that are to be foretold.

    A batch's inputs are the source, int64 (n, s), each sentence with ``END`` behind it, and the target as far as it is
    known when the next token is foretold, int64 (n, t), with ``START`` before it; its targets the target that is to be
    foretold, int64 (n, t), with ``END`` behind it. All are filled up behind with ``PADDING``, 0.
    """

    kind: ClassVar[str] = "parallel"
    on_disk: ClassVar[bool] = False

    source_texts: tuple[str, ...]
    target_texts: tuple[str, ...]
    source_vocabulary: Vocabulary | BytePairs
    target_vocabulary: Vocabulary | BytePairs
    source: Ragged = None  # type: ignore[assignment]  # left out: the tokens of the texts
    target: Ragged = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if len(self.source_texts) != len(self.target_texts):
            wanted = f"one for each of the {len(self.source_texts)} sentences"
            raise ArgumentError("target_texts", len(self.target_texts), wanted)
        for side in ("source", "target"):
            texts, vocabulary = getattr(self, f"{side}_texts"), getattr(self, f"{side}_vocabulary")
            if getattr(self, side) is None:
                object.__setattr__(self, side, Ragged.of(map(vocabulary.encode, texts)))
            if len(getattr(self, side)) != len(texts):
                raise ArgumentError(side, len(getattr(self, side)), f"one for each of the {len(texts)} sentences")

    def __len__(self) -> int:
        return len(self.source_texts)

    def __repr__(self) -> str:
        sizes = f"{len(self.source_vocabulary)} and {len(self.target_vocabulary)} tokens"
        return f"Parallel({len(self)} sentences, {sizes})"

    @property
    def lengths(self) -> Tensor:
        """Tokens of the longer of both sides with its end, int64 (n,)."""
        return torch.maximum(self.source.lengths, self.target.lengths) + 1

    def batch(self, indices: Tensor) -> Batch:
        """((source (n, s), target begun (n, t)), target to be foretold (n, t))."""
        source, _ = self.source.padded(indices, PADDING, after=END)
        begun, _ = self.target.padded(indices, PADDING, before=START)
        foretold, _ = self.target.padded(indices, PADDING, after=END)
        return Batch((source, begun), foretold, len(indices), self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        """Target tokens, ends included."""
        return float(self.target.lengths[indices].sum()) + len(indices)

    def select(self, indices: Tensor) -> Parallel:
        """The sentences at ``indices``, in that order."""
        places = indices.tolist()
        return dataclasses.replace(
            self,
            source_texts=tuple(self.source_texts[place] for place in places),
            target_texts=tuple(self.target_texts[place] for place in places),
            source=self.source.select(indices),
            target=self.target.select(indices),
        )

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all tokens and lengths."""
        for side in (self.source, self.target):
            for tensor in (side.offsets, side.values):
                checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
        return checksum

    def describe(self) -> dict[str, Any]:
        """{"sentences": their number, "source_vocabulary" and "target_vocabulary": their sizes}."""
        sizes = {"source_vocabulary": len(self.source_vocabulary), "target_vocabulary": len(self.target_vocabulary)}
        return {"sentences": len(self), **sizes}

    def check_test(self, test: Parallel) -> None:
        """ArgumentError where ``test`` has other vocabularies."""
        if self.source_vocabulary != test.source_vocabulary or self.target_vocabulary != test.target_vocabulary:
            got, wanted = (f"{each.source_vocabulary}, {each.target_vocabulary}" for each in (test, self))
            raise ArgumentError("test", got, f"the vocabularies of train, {wanted}")
