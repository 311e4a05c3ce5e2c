"""Cutout: a square of each picture filled with one colour (DeVries, Taylor, "Improved regularization …", 2017)."""

from __future__ import annotations

import torch

from convscope.data.augment.geometry import chosen
from convscope.seeding import drawn


def cutout(images: torch.Tensor, side: int, fill: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A square of ``side`` pixels, its centre anywhere in the picture (so that it may hang over the edge), filled.

    ``images`` is uint8 (n, c, h, w), ``fill`` uint8 (c,), one value a channel.
    """
    count, channels, height, width = images.shape
    places = drawn(generator, count, lambda n: torch.rand((2, n, 1), generator=generator), 1)
    sizes = torch.tensor([height, width]).reshape(2, 1, 1)
    first = (places * sizes).to(torch.int64) - side // 2  # (2, n, 1)
    first = first.to(images.device)
    rows = torch.arange(height, device=images.device) - first[0]  # (n, h), inside where 0 ≤ row < side
    columns = torch.arange(width, device=images.device) - first[1]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    inside = (inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1)  # (n, 1, h, w)
    return chosen(inside, fill.to(images.device).reshape(1, channels, 1, 1), images)
