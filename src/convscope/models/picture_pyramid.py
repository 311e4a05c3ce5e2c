"""A detector on pictures of several scales, by brute force: each region is looked at where it has the right size.

Girshick: Fast R-CNN, ICCV 2015, sections 2.3 and 5.2; He, Zhang, Ren, Sun: Spatial pyramid pooling, ECCV 2014.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 224  # pixels: a region is looked at in the scale where its area is nearest to SIDE²


class Scaled(Protocol):
    """What a detector needs for it: ``pyramid``, the pictures' factors; ``stride`` pixels a place of the maps."""

    pyramid: tuple[float, ...]
    stride: int
    training: bool

    @property
    def backbone(self) -> nn.Module: ...

    @property
    def roi_heads(self) -> nn.Module: ...


def in_pyramid(model: Scaled, pictures: Tensor, rois: Tensor, levels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scores (r, c + 1) and differences (r, c + 1, 4) of regions (r, 5), in their order.

    The pictures (n, c, h, w) are made larger or smaller by each factor that regions ask for, and go through the body
    once for each. A training pass has drawn a factor for each picture: ``levels`` int64 (n, 2), its number, and that
    of the largest that any picture of the whole batch has, which the canvas has room for. All then go through the body
    together.
    """
    if levels is not None:
        larger, factors = side_by_side(pictures, model.pyramid, levels, model.stride)
        moved = rois[:, 1:] * factors[rois[:, 0].long()]
        scores, differences = model.roi_heads(model.backbone(larger), torch.cat((rois[:, :1], moved), 1))
        return scores, differences
    nearest = level_of(rois, model.pyramid)
    used = torch.unique(nearest).tolist() or [0]
    parts, order = [], []
    for level in used:
        own = torch.nonzero(nearest == level).flatten()
        larger, factors = resized(pictures, model.pyramid[level], model.stride)
        parts.append(model.roi_heads(model.backbone(larger), torch.cat((rois[own, :1], rois[own, 1:] * factors), 1)))
        order.append(own)
    back = torch.cat(order).argsort()
    scores, differences = (torch.cat(each)[back] for each in zip(*parts, strict=True))
    return scores, differences


def level_of(rois: Tensor, pyramid: tuple[float, ...]) -> Tensor:
    """int64 (r,): the factor by which each region's area is nearest to 224² pixels, the first of equals."""
    areas = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    factors = rois.new_tensor(pyramid)
    return (areas[:, None] * factors**2 - SIDE**2).abs().argmin(1)


def resized(pictures: Tensor, factor: float, stride: int) -> tuple[Tensor, Tensor]:
    """The pictures ``factor`` times as large, filled up with 0, the mean colour, to whole places of a body of that
    ``stride``; and the factors (4,) of x and y that boxes move by, which rounding to whole pixels makes unlike."""
    height, width = pictures.shape[2:]
    tall, wide = (max(1, round(side * factor)) for side in (height, width))
    factors = pictures.new_tensor([wide / width, tall / height]).repeat(2)
    if (tall, wide) != (height, width):
        pictures = F.interpolate(pictures, (tall, wide), mode="bilinear", align_corners=False, antialias=factor < 1)
    down, across = (max(2 * stride, -(-side // stride) * stride) - side for side in (tall, wide))
    return F.pad(pictures, (0, across, 0, down)), factors


def side_by_side(pictures: Tensor, pyramid: tuple[float, ...], levels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Each picture by its own factor, on canvases of the largest of ``levels`` (see ``in_pyramid``), beyond it 0; and
    the factors (n, 4) that its boxes move by."""
    empty = pictures[:1, :, :, :].new_zeros(1, 1, *pictures.shape[2:])
    tall, wide = resized(empty, pyramid[int(levels[:, 1].max())], stride)[0].shape[2:]
    canvas, factors = pictures.new_zeros(len(pictures), pictures.shape[1], tall, wide), []
    for place, level in enumerate(levels[:, 0].tolist()):
        larger, moved = resized(pictures[place : place + 1], pyramid[level], stride)
        canvas[place, :, : larger.shape[2], : larger.shape[3]] = larger[0]
        factors.append(moved)
    return canvas, torch.stack(factors)
