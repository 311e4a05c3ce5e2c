"""Pictures with boxes around the things in them: what detection learns from."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope import seeding
from convscope.data.examples import Batch
from convscope.data.kinds.classes import check_names, check_numbers, check_same, renumbering
from convscope.data.kinds.pictured import Pictured
from convscope.data.picture_stores import PictureStore
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class BoxTargets:
    """The boxes of a batch's n pictures, one picture's after another's.

    ``boxes`` float32 (k, 4): x₁, y₁, x₂, y₂ in pixels, the left edge of the first column being 0, so that a box of w
    columns has x₂ − x₁ = w; ``labels`` int64 (k,); ``difficult`` bool (k,), boxes that neither count as found nor as
    missed; ``counts`` int64 (n,), how many each picture has. ``seeds`` int64 (n,): the chance of what a training step
    draws of each picture; None: torch's own.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    counts: Tensor
    seeds: Tensor | None = None

    def chance(self, picture: int, name: str) -> torch.Generator | None:
        """The generator for what is drawn of that picture under ``name``; None: torch's own."""
        return None if self.seeds is None else seeding.generator(int(self.seeds[picture]), name)

    def of_each(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(boxes, labels, difficult) of each picture."""
        counts = self.counts.tolist()
        parts = (torch.split(tensor, counts) for tensor in (self.boxes, self.labels, self.difficult))
        return list(zip(*parts, strict=True))

    def pictures(self) -> Tensor:
        """int64 (k,): which picture of the batch each box is in."""
        return torch.repeat_interleave(torch.arange(len(self.counts), device=self.counts.device), self.counts)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Boxes(Pictured):
    """Pictures of any sizes with boxes of classes; each picture weighs 1.

    A batch's inputs are the pictures, uint8 (n, c, H, W), smaller ones with 0 at the right and at the bottom, and their
    own sizes, int64 (n, 2); its targets are ``BoxTargets``. ``boxes`` has rows float32 (k, 4) as there, in the order of
    the pictures; ``labels`` int64 and ``difficult`` bool (left out: none) are one for each box. ``left_out`` counts
    what a loader had to leave out, by what was wrong.

    Raises ArgumentError where they do not fit together, and for a box that has no area or reaches out of its picture.
    """

    kind: ClassVar[str] = "boxes"
    lengths: ClassVar[Tensor | None] = None

    pictures: PictureStore
    boxes: Ragged
    labels: Tensor
    classes: tuple[str, ...]
    difficult: Tensor | None = None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.classes)
        check_numbers(self.labels, self.classes)
        values = self.boxes.values
        if values.dtype != torch.float32 or values.ndim != 2 or values.shape[1] != 4:
            raise ArgumentError("boxes", tuple(values.shape), "float32 boxes of shape (k, 4)")
        if len(self.boxes) != len(self.pictures):
            raise ArgumentError("boxes", len(self.boxes), f"a row for each of the {len(self.pictures)} pictures")
        if len(self.labels) != len(values):
            raise ArgumentError("labels", len(self.labels), f"one for each of the {len(values)} boxes")
        if self.difficult is not None and (self.difficult.dtype != torch.bool or len(self.difficult) != len(values)):
            raise ArgumentError("difficult", len(self.difficult), f"a bool for each of the {len(values)} boxes")
        sizes = torch.repeat_interleave(self.pictures.sizes.flip(1).repeat(1, 2), self.boxes.lengths, dim=0)
        wrong = (values < 0) | (values > sizes) | ~torch.isfinite(values)
        wrong |= values[:, [2, 3, 2, 3]] <= values[:, [0, 1, 0, 1]]
        if wrong.any():
            first = int(torch.nonzero(wrong.any(1))[0])
            width, height = sizes[first, :2].tolist()
            wanted = f"x₁ < x₂ ≤ {width} and y₁ < y₂ ≤ {height}, as its picture is {height}×{width}"
            raise ArgumentError("boxes", values[first].tolist(), wanted)

    def __repr__(self) -> str:
        return f"Boxes({len(self)} pictures, {len(self.labels)} boxes of {len(self.classes)} classes)"

    def batch(self, indices: Tensor) -> Batch:
        """Pictures (n, c, H, W) with their sizes (n, 2), and ``BoxTargets``."""
        places, counts = self.boxes.places(indices)
        targets = BoxTargets(self.boxes.values[places], self.labels[places], self._difficult()[places], counts)
        inputs = (self.pictures.stacked(indices), self.pictures.sizes[indices])
        return Batch(inputs, targets, len(indices), float(len(indices)))

    def weight(self, indices: Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def select(self, indices: Tensor) -> Boxes:
        """The pictures at ``indices``, in that order."""
        places, _ = self.boxes.places(indices)
        return dataclasses.replace(
            self,
            pictures=self.pictures.select(indices),
            boxes=self.boxes.select(indices),
            labels=self.labels[places],
            difficult=self._difficult()[places],
        )

    def restrict(self, classes: Sequence[str]) -> Boxes:
        """All pictures, but only the boxes of ``classes``, numbered anew in that order."""
        labels = renumbering(self.classes, classes)[self.labels]
        kept = labels >= 0
        owners = torch.repeat_interleave(torch.arange(len(self)), self.boxes.lengths)[kept]
        counts = torch.bincount(owners, minlength=len(self))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return dataclasses.replace(
            self,
            boxes=Ragged(self.boxes.values[kept], offsets),
            labels=labels[kept],
            classes=tuple(classes),
            difficult=self._difficult()[kept],
        )

    def counts(self) -> list[int]:
        """Number of boxes of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all boxes and their classes, of all sizes, and of some 16 pictures, evenly spaced."""
        for tensor in (self.boxes.offsets, self.boxes.values, self.labels, self._difficult()):
            checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
        return self.pictures.fingerprint(checksum)

    def describe(self) -> dict[str, Any]:
        """{"images": their number, "classes": the names}."""
        return {"images": len(self), "classes": list(self.classes)}

    def check_test(self, test: Boxes) -> None:
        """ArgumentError where ``test`` has other classes or channels."""
        check_same(self.classes, test.classes)
        if self.channels != test.channels:
            raise ArgumentError("test", test.channels, f"pictures of train's {self.channels} channels")

    def _difficult(self) -> Tensor:
        return torch.zeros(len(self.labels), dtype=torch.bool) if self.difficult is None else self.difficult
