"""Pictures with texts: what is to be seen in them, or what is written in them."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.pictured import Pictured
from convscope.data.picture_stores import PictureStore
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import PADDING, Vocabulary
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class CaptionTargets:
    """The captions of a batch's n pictures, one picture's after another's: ``tokens`` int64 (m, longest), without ends,
    filled up behind with ``PADDING``; ``lengths`` int64 (m,); ``counts`` int64 (n,), how many each picture has."""

    tokens: Tensor
    lengths: Tensor
    counts: Tensor

    def pictures(self) -> Tensor:
        """int64 (m,): which picture of the batch each caption belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.counts), device=self.counts.device), self.counts)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Captions(Pictured):
    """Pictures of any sizes, each with one or several captions.

    A batch's inputs are the pictures, uint8 (n, c, H, W), smaller ones with 0 at the right and at the bottom, and their
    own sizes, int64 (n, 2); its targets are ``CaptionTargets``. It weighs as many as it has captions; with
    ``by_tokens``, as many as these have tokens, an end behind each included.

    ``texts`` are the captions of all pictures, one picture's after another's, ``counts`` how many each picture has,
    int64 (n,).
    """

    kind: ClassVar[str] = "captions"
    lengths: ClassVar[Tensor | None] = None

    pictures: PictureStore
    texts: tuple[str, ...]
    counts: Tensor
    vocabulary: Vocabulary
    by_tokens: bool = False
    tokens: Ragged = None  # type: ignore[assignment]  # left out: those of ``texts``

    def __post_init__(self) -> None:
        if self.counts.dtype != torch.int64 or self.counts.shape != (len(self.pictures),):
            raise ArgumentError(
                "counts", tuple(self.counts.shape), f"int64, one for each of the {len(self.pictures)} pictures"
            )
        if len(self.counts) and int(self.counts.min()) < 1:
            raise ArgumentError("counts", int(self.counts.min()), "at least one caption for each picture")
        if int(self.counts.sum()) != len(self.texts):
            raise ArgumentError("texts", len(self.texts), f"as many as counts say, {int(self.counts.sum())}")
        if self.tokens is None:
            object.__setattr__(self, "tokens", Ragged.of(map(self.vocabulary.encode, self.texts)))
        if len(self.tokens) != len(self.texts):
            raise ArgumentError("tokens", len(self.tokens), f"one row for each of the {len(self.texts)} captions")

    def __repr__(self) -> str:
        return f"Captions({len(self)} pictures, {len(self.texts)} captions, {len(self.vocabulary)} tokens)"

    def batch(self, indices: Tensor) -> Batch:
        """Pictures (n, c, H, W) with their sizes (n, 2), and ``CaptionTargets``."""
        rows, counts = self._rows().places(indices)
        targets = CaptionTargets(*self.tokens.padded(rows, PADDING), counts)
        inputs = (self.pictures.stacked(indices), self.pictures.sizes[indices])
        return Batch(inputs, targets, len(indices), self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        """Their captions, or these captions' tokens and ends."""
        rows, _ = self._rows().places(indices)
        return float(len(rows)) + (float(self.tokens.lengths[rows].sum()) if self.by_tokens else 0.0)

    def select(self, indices: Tensor) -> Captions:
        """The pictures at ``indices``, in that order."""
        rows, counts = self._rows().places(indices)
        return self._with(indices, rows, counts)

    def apart(self) -> Captions:
        """Every caption as an example of its own, its picture repeated."""
        owners = torch.repeat_interleave(torch.arange(len(self)), self.counts)
        return self._with(owners, torch.arange(len(owners)), torch.ones_like(owners))

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all captions, of all sizes, and of some 16 pictures, evenly spaced."""
        for tensor in (self.counts, self.tokens.offsets, self.tokens.values):
            checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
        return self.pictures.fingerprint(checksum)

    def describe(self) -> dict[str, Any]:
        """{"images": their number, "vocabulary": its size}."""
        return {"images": len(self), "vocabulary": len(self.vocabulary)}

    def check_test(self, test: Captions) -> None:
        """ArgumentError where ``test`` has another vocabulary or other channels."""
        if self.vocabulary != test.vocabulary or self.channels != test.channels:
            got, wanted = (f"{each.vocabulary}, {each.channels} channels" for each in (test, self))
            raise ArgumentError("test", got, f"what train has, {wanted}")

    def _rows(self) -> Ragged:
        """Which captions belong to each picture."""
        offsets = torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])
        return Ragged(torch.arange(len(self.texts)), offsets)

    def _with(self, pictures: Tensor, captions: Tensor, counts: Tensor) -> Captions:
        return dataclasses.replace(
            self,
            pictures=self.pictures.select(pictures),
            texts=tuple(self.texts[row] for row in captions.tolist()),
            counts=counts,
            tokens=self.tokens.select(captions),
        )
