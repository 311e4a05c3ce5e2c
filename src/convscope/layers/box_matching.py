"""Which boxes stand for which things, and which of them a training step looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.layers.boxes import box_iou

IGNORED = -1  # neither a thing nor background


def match_anchors(
    anchors: Tensor, boxes: Tensor, difficult: Tensor, positive: float = 0.7, negative: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Faster R-CNN's labels of anchors (section 3.1.2): for each (k,) 1, 0 or ``IGNORED``, and which box it stands for.

    1 where the overlap with some box is at least ``positive``, or where no other anchor overlaps that box more; 0 where
    that with all boxes is below ``negative``. What overlaps a difficult box by ``negative`` or more is ignored where it
    would be 0.
    """
    if len(boxes) == 0:
        return anchors.new_zeros(len(anchors), dtype=torch.int64), anchors.new_zeros(len(anchors), dtype=torch.int64)
    iou = box_iou(anchors, boxes)
    usable = ~difficult
    best, which = torch.where(usable, iou, -1.0).max(1)
    labels = torch.full_like(which, IGNORED)
    labels[(best < negative) & ~(iou[:, difficult] >= negative).any(1)] = 0
    labels[best >= positive] = 1
    own = torch.where(usable, iou, 0.0)
    most = own.amax(0)  # (m,)
    nearest = ((own == most) & (most > 0)).any(1)  # ties: all of them
    labels[nearest] = 1
    return labels, which


def match_regions(
    rois: Tensor, boxes: Tensor, labels: Tensor, difficult: Tensor, least: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast R-CNN's labels of regions (section 2.3): for each (r,) the class of the box that it overlaps most, counted
    from 1, where that is by ``least`` or more, else 0; which box; and by how much.

    One that overlaps a difficult box so much, and no other, is ``IGNORED``.
    """
    if len(boxes) == 0:
        nothing = rois.new_zeros(len(rois), dtype=torch.int64)
        return nothing, nothing.clone(), rois.new_zeros(len(rois))
    iou = box_iou(rois, boxes)
    best, which = torch.where(~difficult, iou, -1.0).max(1)
    found = torch.where(best >= least, labels[which] + 1, 0)
    hard = (iou[:, difficult] >= least).any(1)
    return torch.where((found == 0) & hard, IGNORED, found), which, best.clamp(min=0)


def drawn_regions(
    rois: Tensor,
    boxes: Tensor,
    labels: Tensor,
    difficult: Tensor,
    count: int,
    share: float,
    background: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(≤ count, 4): those of a picture's regions ``rois`` (r, 4), and of its own boxes, that a training step looks at.

    At most ``share`` of ``count`` overlap a box by 0.5 or more; the others overlap one by ``background`` or more, and
    by less than 0.5, where there are such. Chance is torch's own where no generator is given.
    """
    candidates = torch.cat((rois, boxes[~difficult].to(rois)))
    found, _, best = match_regions(candidates, boxes.to(rois), labels, difficult)
    others = found == 0
    near = others & (best >= background)
    return candidates[draw(found > 0, near if near.any() else others, count, share, generator)]


def draw(first: Tensor, second: Tensor, count: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """int64: places where ``first`` (bool) holds, at most ``share`` of ``count``, drawn at random; then places where
    ``second`` holds, until there are ``count`` or no more. Chance is torch's own where no generator is given."""
    some = _shuffled(first, generator)[: int(count * share)]
    return torch.cat((some, _shuffled(second, generator)[: count - len(some)]))


def _shuffled(mask: Tensor, generator: torch.Generator | None) -> Tensor:
    places = torch.nonzero(mask).flatten()
    order = torch.randperm(len(places), generator=generator)
    return places[order.to(places.device)]
