"""Pictures with their classes, in memory: uint8 pixels, class numbers, class names."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch

from convscope import seeding
from convscope.data.examples import Batch
from convscope.data.figures import mean_and_deviation
from convscope.data.kinds.classes import check_names, check_numbers, check_same, renumbering
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError


class _Classed(Protocol):
    """Examples of one class each."""

    @property
    def labels(self) -> torch.Tensor: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def select(self, indices: torch.Tensor) -> Self: ...


L = TypeVar("L", bound=_Classed)


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with their classes.

    A batch's one input are the pictures, its targets their labels; each weighs 1.

    ``images`` is uint8 (n, c, h, w), ``labels`` int64 (n,) with values 0 … len(classes) − 1, both on one device.
    Raises ArgumentError where they do not fit together.
    """

    kind: ClassVar[str] = "labelled"
    lengths: ClassVar[torch.Tensor | None] = None
    on_disk: ClassVar[bool] = False

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ArgumentError("images", _described(images), "a uint8 tensor of shape (n, c, h, w)")
        if images.numel() == 0 and len(images):
            raise ArgumentError("images", tuple(images.shape), "pictures of at least one pixel")
        check_names(self.classes)
        check_numbers(labels, self.classes)
        if len(images) != len(labels):
            raise ArgumentError("labels", len(labels), f"one for each of the {len(images)} pictures")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Labelled({len(self)} pictures of {'×'.join(map(str, self.shape))}, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def channels(self) -> int:
        """1 where the pictures are grey, 3 where they are in colour."""
        return self.images.shape[1]

    def some_pictures(self, most: int) -> Iterator[torch.Tensor]:
        """About ``most`` pictures, evenly spaced, 512 at a time: uint8 (m, c, h, w)."""
        yield from torch.split(self.images[:: max(1, len(self) // most)], 512)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batch(self, indices: torch.Tensor) -> Batch:
        """Pictures uint8 (n, c, h, w) and labels int64 (n,)."""
        indices = indices.to(self.images.device)
        pictures, labels = self.images.index_select(0, indices), self.labels.index_select(0, indices)
        return Batch((pictures,), labels, len(indices), float(len(indices)))

    def weight(self, indices: torch.Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all labels and of some 256 pictures, evenly spaced."""
        checksum = zlib.crc32(self.labels.cpu().numpy().tobytes(), checksum)
        some = self.images[:: max(len(self) // 256, 1)]
        return zlib.crc32(some.cpu().contiguous().numpy().tobytes(), checksum)

    def describe(self) -> dict[str, Any]:
        """{"images": their number, "classes": the names}."""
        return {"images": len(self), "classes": list(self.classes)}

    def check_test(self, test: Labelled) -> None:
        """ArgumentError where ``test`` cannot be the test part to this training part."""
        check_same(self.classes, test.classes)
        if self.shape != test.shape:
            raise ArgumentError("test", test.shape, f"pictures of train's shape, {self.shape}")

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Exact mean and standard deviation of each channel, pixels taken as 0 … 1; of the pictures in ``channels``
        channels where given. A deviation is never 0: that of a constant channel is given as 1."""
        images = self.images if channels is None else convert_channels(self.images, channels)
        return mean_and_deviation([images])

    def to(self, device: torch.device | str) -> Labelled:
        """The same pictures on another device."""
        return Labelled(self.images.to(device), self.labels.to(device), self.classes)

    def select(self, indices: torch.Tensor) -> Labelled:
        """The pictures at ``indices``, in that order."""
        indices = indices.to(self.labels.device)
        return Labelled(self.images.index_select(0, indices), self.labels.index_select(0, indices), self.classes)

    def counts(self) -> list[int]:
        """Number of pictures of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def restrict(self, classes: Sequence[str]) -> Labelled:
        """Only the pictures of ``classes``, numbered anew in that order."""
        labels = renumbering(self.classes, classes).to(self.labels.device)[self.labels]
        kept = torch.nonzero(labels >= 0).flatten()
        return Labelled(self.images.index_select(0, kept), labels.index_select(0, kept), tuple(classes))


def stratified_split(split: L, test_fraction: float, seed: int) -> tuple[L, L]:
    """Set ``test_fraction`` (between 0 and 1) of every class aside for testing; which ones depends on ``seed`` alone.

    A class of n examples gives round(n·fraction) of them, but keeps at least one for training. Both parts keep the
    order that the examples had.
    """
    train, test = stratified_places(split.labels.cpu(), len(split.classes), test_fraction, seed)
    return split.select(train), split.select(test)


def stratified_places(
    labels: torch.Tensor, classes: int, test_fraction: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``stratified_split`` of the class numbers ``labels`` alone: the places of both parts, int64."""
    if not isinstance(test_fraction, (int, float)) or not 0 < test_fraction < 1:
        raise ArgumentError("test_fraction", test_fraction, "a number between 0 and 1, for example 0.2")
    tested = torch.zeros(len(labels), dtype=torch.bool)
    for number in range(classes):
        members = torch.nonzero(labels == number).flatten()
        order = torch.randperm(len(members), generator=seeding.generator(seed, "split", number))
        count = min(round(len(members) * test_fraction), max(len(members) - 1, 0))
        tested[members[order[:count]]] = True
    if not tested.any():
        wanted = f"a fraction that leaves test examples, of {len(labels)} in all"
        raise ArgumentError("test_fraction", test_fraction, wanted)
    return torch.nonzero(~tested).flatten(), torch.nonzero(tested).flatten()


def _described(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
