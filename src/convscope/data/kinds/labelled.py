"""Pictures with their classes, in memory: uint8 pixels, class numbers, class names."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from convscope import seeding
from convscope.data.examples import Batch
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError


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
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise ArgumentError("labels", _described(labels), "an int64 tensor of shape (n,)")
        if len(images) != len(labels):
            raise ArgumentError("labels", len(labels), f"one for each of the {len(images)} pictures")
        if not self.classes:
            raise ArgumentError("classes", self.classes, "at least one class name")
        if len(set(self.classes)) != len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise ArgumentError("classes", twice, "every class name once")
        if len(labels):
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(self.classes):
                raise ArgumentError(
                    "labels", low if low < 0 else high, f"class numbers 0 … {len(self.classes) - 1}, one a class name"
                )

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
        if self.classes != test.classes:
            raise ArgumentError("test", test.classes, f"the classes of train, {self.classes}")
        if self.shape != test.shape:
            raise ArgumentError("test", test.shape, f"pictures of train's shape, {self.shape}")

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Exact mean and standard deviation of each channel, pixels taken as 0 … 1; of the pictures in ``channels``
        channels where given. A deviation is never 0: that of a constant channel is given as 1."""
        images = self.images if channels is None else convert_channels(self.images, channels)
        return _statistics(images)

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
        chosen = tuple(classes)
        for name in chosen:
            if name not in self.classes:
                raise ArgumentError("classes", name, f"names among {', '.join(self.classes)}")
        if len(set(chosen)) != len(chosen) or not chosen:
            raise ArgumentError("classes", chosen, "at least one class name, each once")
        renumber = torch.full((len(self.classes),), -1, dtype=torch.int64)
        renumber[[self.classes.index(name) for name in chosen]] = torch.arange(len(chosen))
        labels = renumber.to(self.labels.device)[self.labels]
        kept = torch.nonzero(labels >= 0).flatten()
        return Labelled(self.images.index_select(0, kept), labels.index_select(0, kept), chosen)


def stratified_split(split: Labelled, test_fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """Set ``test_fraction`` (between 0 and 1) of every class aside for testing; which ones depends on ``seed`` alone.

    A class of n pictures gives round(n·fraction) of them, but keeps at least one for training. Both parts keep the
    order that the pictures had.
    """
    if not isinstance(test_fraction, (int, float)) or not 0 < test_fraction < 1:
        raise ArgumentError("test_fraction", test_fraction, "a number between 0 and 1, for example 0.2")
    labels = split.labels.cpu()
    tested = torch.zeros(len(split), dtype=torch.bool)
    for number in range(len(split.classes)):
        members = torch.nonzero(labels == number).flatten()
        order = torch.randperm(len(members), generator=seeding.generator(seed, "split", number))
        count = min(round(len(members) * test_fraction), max(len(members) - 1, 0))
        tested[members[order[:count]]] = True
    if not tested.any():
        raise ArgumentError(
            "test_fraction", test_fraction, f"a fraction that leaves test pictures, of {len(split)} in all"
        )
    return split.select(torch.nonzero(~tested).flatten()), split.select(torch.nonzero(tested).flatten())


def _statistics(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel by counts of the 256 grey values, as fractions of 255."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means: list[float] = []
    deviations: list[float] = []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for part in torch.split(images[:, channel], 4096):  # bincount widens to int64: 8 times the part's size
            counts += torch.bincount(part.flatten(), minlength=256).cpu()
        weights = counts / counts.sum()
        mean = float(weights @ values)
        deviation = float(weights @ (values - mean) ** 2) ** 0.5
        means.append(mean)
        deviations.append(deviation if deviation > 1e-6 else 1.0)  # a constant channel is only shifted
    return tuple(means), tuple(deviations)


def _described(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
