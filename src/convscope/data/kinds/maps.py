"""Pictures with a class for every pixel: what semantic segmentation learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy
import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.classes import check_names, check_same, renumbering
from convscope.data.kinds.pictured import Pictured
from convscope.data.picture_stores import LookedUp, PictureStore
from convscope.errors import ArgumentError

IGNORED = 255
Palette = tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Maps(Pictured):
    """Pictures of any sizes, each with a map of class numbers of its own size.

    A batch's input are the pictures, uint8 (n, c, H, W), smaller ones with 0 at the right and at the bottom; its
    targets the maps, int64 (n, H, W), there ``ignored``. It weighs as many as its pixels that have a class, before
    augmentation.

    ``maps`` are uint8 (1, h, w) each, values 0 … len(classes) − 1 or ``ignored``, which is no class. ``histogram``,
    int64 (n, classes), counts the pixels of each class in each picture; left out, it is counted now. ``palette`` has a
    colour (red, green, blue) for each class, to draw maps with. Raises ArgumentError where they do not fit together.
    """

    kind: ClassVar[str] = "maps"
    lengths: ClassVar[Tensor | None] = None

    pictures: PictureStore
    maps: PictureStore
    classes: tuple[str, ...]
    ignored: int = IGNORED
    palette: Palette | None = None
    histogram: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))

    def __post_init__(self) -> None:
        check_names(self.classes)
        if not len(self.classes) <= self.ignored <= 255:
            raise ArgumentError("ignored", self.ignored, f"a value from {len(self.classes)} to 255, which no class has")
        if self.maps.channels != 1 or len(self.maps) != len(self.pictures):
            got = f"{len(self.maps)} of {self.maps.channels} channel(s)"
            raise ArgumentError("maps", got, f"one of one channel for each of the {len(self.pictures)} pictures")
        differ = (self.maps.sizes != self.pictures.sizes).any(1)
        if differ.any():
            place = int(torch.nonzero(differ)[0])
            own, wanted = self.maps.sizes[place].tolist(), self.pictures.sizes[place].tolist()
            raise ArgumentError("maps", f"{own} at place {place}", f"maps of their pictures' sizes, here {wanted}")
        if self.palette is not None and len(self.palette) != len(self.classes):
            raise ArgumentError("palette", len(self.palette), f"a colour for each of the {len(self.classes)} classes")
        if self.histogram.shape != (len(self), len(self.classes)):
            if self.histogram.numel():
                raise ArgumentError("histogram", tuple(self.histogram.shape), "a row a picture, a column a class")
            object.__setattr__(self, "histogram", count_classes(self.maps, len(self.classes), self.ignored))

    def __repr__(self) -> str:
        return f"Maps({len(self)} pictures, {len(self.classes)} classes)"

    @property
    def on_disk(self) -> bool:
        return self.pictures.on_disk or self.maps.on_disk

    def batch(self, indices: Tensor) -> Batch:
        """Pictures (n, c, H, W) and maps, int64 (n, H, W)."""
        pictures, maps = self.pictures.stacked(indices), self.maps.stacked(indices, fill=self.ignored)
        return Batch((pictures,), maps[:, 0].to(torch.int64), len(indices), self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        """Pixels that have a class."""
        return float(self.histogram[indices].sum())

    def select(self, indices: Tensor) -> Maps:
        """The pictures at ``indices``, in that order."""
        return dataclasses.replace(
            self,
            pictures=self.pictures.select(indices),
            maps=self.maps.select(indices),
            histogram=self.histogram[indices],
        )

    def counts(self) -> list[int]:
        """Number of pixels of each class."""
        return self.histogram.sum(0).tolist()

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of sizes, and of some 16 pictures and their maps, evenly spaced."""
        return self.maps.fingerprint(self.pictures.fingerprint(checksum))

    def describe(self) -> dict[str, Any]:
        """{"images": their number, "classes": the names}."""
        return {"images": len(self), "classes": list(self.classes)}

    def check_test(self, test: Maps) -> None:
        """ArgumentError where ``test`` has other classes, channels or another ignored value."""
        check_same(self.classes, test.classes)
        if (self.channels, self.ignored) != (test.channels, test.ignored):
            got = f"{test.channels} channels, ignored = {test.ignored}"
            raise ArgumentError("test", got, f"those of train, {self.channels} and {self.ignored}")

    def restrict(self, classes: Sequence[str]) -> Maps:
        """Only ``classes``, numbered anew in that order; all other pixels become ignored."""
        numbers = renumbering(self.classes, classes)
        table = torch.full((256,), self.ignored, dtype=torch.uint8)
        table[: len(numbers)][numbers >= 0] = numbers[numbers >= 0].to(torch.uint8)
        kept = [self.classes.index(name) for name in classes]
        return dataclasses.replace(
            self,
            maps=LookedUp(self.maps, table),
            classes=tuple(classes),
            palette=None if self.palette is None else tuple(self.palette[number] for number in kept),
            histogram=self.histogram[:, kept],
        )


def count_values(values: Tensor) -> Tensor:
    """int64 (256,): how often each value comes in a uint8 tensor.

    By numpy: for a map of 180×240 torch starts its threads, which took 5 ms on a busy machine against 0.1."""
    return torch.from_numpy(numpy.bincount(values.numpy().reshape(-1), minlength=256))


def count_classes(maps: PictureStore, classes: int, ignored: int) -> Tensor:
    """int64 (n, classes): how many pixels of each class each map has.

    Raises ArgumentError, naming the place, for a value that is neither a class number nor ``ignored``.
    """
    rows = torch.zeros((len(maps), classes), dtype=torch.int64)
    for place in range(len(maps)):
        counts = count_values(maps.picture(place))
        counts[ignored] = 0
        if counts[classes:].any():
            wrong = classes + int(torch.nonzero(counts[classes:])[0])
            raise ArgumentError("maps", f"{wrong} at place {place}", f"class numbers 0 … {classes - 1}, or {ignored}")
        rows[place] = counts[:classes]
    return rows
