"""The convolutional bodies that detectors stand on: a picture in, maps of one stride out."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.models.fcn import BODIES as VGG_BODIES
from convscope.models.vgg import MAPS, features

SMALL = "small"
BODIES = (*VGG_BODIES, SMALL)
_SMALL_MAPS = (24, 32, 64, 64)


@dataclasses.dataclass(frozen=True)
class Body:
    """``layers`` give ``maps`` maps, one value every ``stride`` pixels."""

    layers: list[nn.Module]
    maps: int
    stride: int


def body_of(name: str, in_channels: int, width: float = 1.0) -> Body:
    """VGG's convolutions without the last pooling, 16 pixels a place, or "small", 8 pixels a place.

    ``width`` is a factor on the number of maps. UnknownNameError for another name, ArgumentError for a width that is
    none.
    """
    if name not in BODIES:
        raise UnknownNameError("body", name, BODIES)
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 8:
        raise ArgumentError("width", width, "a factor on the number of maps, above 0 and up to 8")
    if name == SMALL:
        maps = [max(4, round(each * width)) for each in _SMALL_MAPS]
        return Body(_small(in_channels, maps), maps[3], 8)
    column, batch_norm = VGG_BODIES[name]
    widths = tuple(max(1, round(each * width)) for each in MAPS)
    return Body(features(column, in_channels, batch_norm, widths=widths)[:-1], widths[4], 16)


class Residual(nn.Module):
    """y = relu(x + F(x)), F two 3×3 convolutions with batch normalisation; (n, c, h, w) → (n, c, h, w)."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(x + self.second(self.first(x)))
        return y


def _small(in_channels: int, maps: list[int]) -> list[nn.Module]:
    """Three halvings and three residual blocks: 0.4 billion multiplications for a picture of 320×240, and 120 pixels
    that each place sees."""

    def halving(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    return [
        *halving(in_channels, maps[0]),
        *halving(maps[0], maps[1]),
        Residual(maps[1]),
        *halving(maps[1], maps[2]),
        Residual(maps[2]),
        Residual(maps[3]),
    ]
