"""Pictures with their classes, too many for memory: read while training."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.classes import check_names, check_numbers, check_same, renumbering
from convscope.data.kinds.labelled import Labelled
from convscope.data.kinds.pictured import Pictured
from convscope.data.picture_stores import PictureStore
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LabelledOnDisk(Pictured):
    """As ``Labelled``, but ``pictures``, all of one size, are read when a batch needs them.

    Batches, weights, checksums and descriptions are those of the same pictures in memory.
    """

    kind: ClassVar[str] = "labelled"
    lengths: ClassVar[Tensor | None] = None

    pictures: PictureStore
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_names(self.classes)
        check_numbers(self.labels, self.classes)
        if len(self.pictures) != len(self.labels):
            raise ArgumentError("labels", len(self.labels), f"one for each of the {len(self.pictures)} pictures")
        _ = self.pictures.shape  # of one size

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        return f"LabelledOnDisk({len(self)} pictures of {shape}, {len(self.classes)} classes)"

    def batch(self, indices: Tensor) -> Batch:
        """Pictures uint8 (n, c, h, w), read now, and labels int64 (n,)."""
        return Batch((self.pictures.stacked(indices),), self.labels[indices], len(indices), float(len(indices)))

    def weight(self, indices: Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def select(self, indices: Tensor) -> LabelledOnDisk:
        """The pictures at ``indices``, in that order."""
        return LabelledOnDisk(self.pictures.select(indices), self.labels[indices], self.classes)

    def restrict(self, classes: Sequence[str]) -> LabelledOnDisk:
        """Only the pictures of ``classes``, numbered anew in that order."""
        labels = renumbering(self.classes, classes)[self.labels]
        kept = torch.nonzero(labels >= 0).flatten()
        return LabelledOnDisk(self.pictures.select(kept), labels[kept], tuple(classes))

    def counts(self) -> list[int]:
        """Number of pictures of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all labels and of some 256 pictures, evenly spaced, as of the same pictures in memory."""
        checksum = zlib.crc32(self.labels.numpy().tobytes(), checksum)
        for part in self.pictures.some(256):
            checksum = zlib.crc32(part.contiguous().numpy().tobytes(), checksum)
        return checksum

    def describe(self) -> dict[str, Any]:
        """{"images": their number, "classes": the names}."""
        return {"images": len(self), "classes": list(self.classes)}

    def check_test(self, test: Labelled | LabelledOnDisk) -> None:
        """ArgumentError where ``test`` cannot be the test part to this training part."""
        check_same(self.classes, test.classes)
        if self.shape != test.shape:
            raise ArgumentError("test", test.shape, f"pictures of train's shape, {self.shape}")

    def in_memory(self) -> Labelled:
        """All of them, read now."""
        return Labelled(self.pictures.stacked(torch.arange(len(self))), self.labels, self.classes)
