"""Anchors: the boxes of a few sizes and shapes, at every place of a map, from which proposals start.

Ren, He, Girshick, Sun: Faster R-CNN, NIPS 2015, section 3.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError


def shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """(k, 2): widths and heights of the k = len(sizes) · len(ratios) anchors of one place, the ratios of the first size
    first. One of size s and ratio r has the area s² and r = height / width. Raises ArgumentError for what is ≤ 0."""
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if not values or any(not value > 0 for value in values):
            raise ArgumentError(name, list(values), "numbers > 0, at least one")
    size = torch.tensor(list(sizes), dtype=torch.float64)[:, None]
    root = torch.tensor(list(ratios), dtype=torch.float64).sqrt()[None]
    return torch.stack((size / root, size * root), 2).reshape(-1, 2)


def anchors(shapes: Tensor, stride: int, height: int, width: int) -> Tensor:
    """(height · width · k, 4): the k boxes of every place, rows first, those of one place together.

    ``shapes`` (k, 2) are their widths and heights in pixels; the place in row i, column j has its centre at
    (stride · (j + ½), stride · (i + ½)).
    """
    rows = stride * (torch.arange(height, dtype=shapes.dtype, device=shapes.device) + 0.5)
    columns = stride * (torch.arange(width, dtype=shapes.dtype, device=shapes.device) + 0.5)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack((x, y), 2).reshape(-1, 1, 2)
    return torch.cat((centres - shapes / 2, centres + shapes / 2), 2).reshape(-1, 4)
