"""How picture files become pictures of the channels and sizes that a data set keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from convscope.data.pictures import load_picture
from convscope.data.transforms import convert_channels, fit_size
from convscope.errors import ArgumentError
from convscope.spec import Fit


@dataclasses.dataclass(frozen=True)
class Shaping:
    """``channels`` is 1 or 3. With ``size`` (height, width) all pictures are brought to it by ``fit``; with ``longest``
    those whose longer side has more pixels are scaled down to it; with neither they keep their size."""

    channels: int
    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ArgumentError("channels", self.channels, "1 (grey) or 3 (colour)")
        if self.fit not in get_args(Fit):
            raise ArgumentError("fit", self.fit, f"one of {', '.join(get_args(Fit))}")
        if self.longest is not None and (not isinstance(self.longest, int) or self.longest < 1):
            raise ArgumentError("longest", self.longest, "an integer ≥ 1, the longer side's most pixels")

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture of ``height`` × ``width`` is brought to."""
        if self.size is not None:
            return self.size
        if self.longest is None or max(height, width) <= self.longest:
            return height, width
        scale = self.longest / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def read(self, path: Path) -> Tensor:
        """The picture in ``path``, uint8 (channels, h, w); DataError, naming the file, where it cannot be read."""
        return self.shaped(load_picture(path))

    def shaped(self, picture: Tensor) -> Tensor:
        """The same of a picture in memory, uint8 (c, h, w)."""
        converted = convert_channels(picture.unsqueeze(0), self.channels)
        return fit_size(converted, self.target(*picture.shape[1:]), self.fit)[0]

    def shaped_map(self, classes: Tensor) -> Tensor:
        """A map of class numbers, uint8 (1, h, w), brought to the size of its picture: each pixel takes the class of
        the nearest one."""
        size = self.target(*classes.shape[1:])
        if size == tuple(classes.shape[1:]):
            return classes
        # uint8 pixels are exact in float32; "nearest-exact" takes the middle of each pixel, "nearest" its corner
        scaled = functional.interpolate(classes.unsqueeze(0).to(torch.float32), size, mode="nearest-exact")
        return scaled[0].to(torch.uint8)
