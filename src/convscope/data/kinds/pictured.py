"""What all kinds with pictures share: everything that is asked of the pictures alone."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from convscope.data.picture_stores import PictureStore


class Pictured:
    """Examples whose pictures are kept in a ``PictureStore``."""

    pictures: PictureStore

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def on_disk(self) -> bool:
        """Whether the pictures are read while training."""
        return self.pictures.on_disk

    @property
    def channels(self) -> int:
        """1 where the pictures are grey, 3 where they are in colour."""
        return self.pictures.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture; ArgumentError where the pictures differ in size."""
        return self.pictures.shape

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, pixels taken as 0 … 1; of the pictures in ``channels`` channels
        where given; of some 2,000 pictures where they are on disk. A deviation is never 0."""
        return self.pictures.statistics(channels)

    def some_pictures(self, most: int) -> Iterator[Tensor]:
        """About ``most`` pictures, evenly spaced, in parts of one size each: uint8 (m, c, h, w)."""
        return self.pictures.some(most)
