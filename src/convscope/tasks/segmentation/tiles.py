"""Large pictures in parts: equal to the whole picture's answer, in the memory of one part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# A picture of more pixels is cut: VGG16's first maps of so many take 1 GB.
MOST_PIXELS = 4_000_000
_SIDE = 1024  # of a part, without what it sees beyond its edges


@runtime_checkable
class Local(Protocol):
    """A network of which a pixel's answer depends only on pixels at most ``reach`` away, and which answers a part that
    begins at multiples of ``step`` pixels as it does the whole."""

    step: int
    reach: int


def parts(length: int, network: Local, side: int = _SIDE) -> Iterator[tuple[int, int, int, int]]:
    """One direction cut: (first, last) of what a part answers, and (first, last) of what must be looked at for it.

    Both begin at multiples of ``step``, the second reaches ``reach`` further, as far as the picture goes.
    """
    step = network.step
    side = max(step, side // step * step)
    margin = -(-network.reach // step) * step
    for first in range(0, length, side):
        last = min(first + side, length)
        yield first, last, max(0, first - margin), min(length, last + margin)


def in_parts(pixels: Tensor, network: Local, labels_of: Callable[[Tensor], Tensor], side: int = _SIDE) -> Tensor:
    """uint8 (h, w): the class of every pixel of a picture, uint8 (c, h, w), of any size.

    ``labels_of`` gives int64 (1, h, w) for (1, c, h, w).
    """
    height, width = pixels.shape[1:]
    found = torch.empty((height, width), dtype=torch.uint8)
    rows, columns = parts(height, network, side), list(parts(width, network, side))
    for (top, bottom, above, below), (left, right, before, after) in itertools.product(rows, columns):
        labels = labels_of(pixels[None, :, above:below, before:after].contiguous())[0]
        own = labels[top - above : bottom - above, left - before : right - before]
        found[top:bottom, left:right] = own.to("cpu", torch.uint8)
    return found
