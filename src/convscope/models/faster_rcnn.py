"""Faster R-CNN: a network that proposes its own regions, on the maps that it classifies them by.

Ren, He, Girshick, Sun: Faster R-CNN, NIPS 2015.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from convscope import seeding
from convscope.errors import UnknownNameError
from convscope.layers.anchors import anchors, shapes
from convscope.layers.box_coding import DEVIATIONS, decode
from convscope.layers.box_matching import drawn_regions
from convscope.layers.boxes import clip_boxes_to_image, nms, remove_small_boxes
from convscope.models.catalog import Card, register
from convscope.models.detector_bodies import Body
from convscope.models.fast_rcnn import (
    Pooling,
    Regions,
    RoIHeads,
    carried_over,
    checked_pooling,
    chosen_body,
    chosen_units,
    start,
)

PAPER = "Ren, He, Girshick, Sun: Faster R-CNN, NIPS 2015"
RATIOS = (0.5, 1.0, 2.0)
_SIZES = (128, 256, 512)
_SMALL_SIZES = (16, 32, 64, 128)
#: The parts of the loss by which each half learns (``tasks.detection.objective``).
HALVES = {"proposals": ("rpn_class", "rpn_box"), "regions": ("class", "box")}


@dataclasses.dataclass(frozen=True)
class Proposing:
    """How anchors become regions: the ``before`` best are taken, moved, cut at the picture's edges, those narrower than
    ``smallest`` pixels left out, then of those that overlap by more than ``overlap`` only the best kept, and of these
    the ``after`` best. A training pass then draws ``drawn`` a picture, at most ``share`` of them on things."""

    before: int = 6000
    after: int = 300
    overlap: float = 0.7
    smallest: float = 1.0
    drawn: int = 64
    share: float = 0.25


class RPNHead(nn.Module):
    """Maps → k logits and 4k differences a place; keys as torchvision's."""

    def __init__(self, maps: int, shapes: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(maps, maps, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(maps, shapes, 1)
        self.bbox_pred = nn.Conv2d(maps, 4 * shapes, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(n, a) and (n, a, 4), in the order of ``layers.anchors``."""
        seen = self.conv(maps)
        logits = self.cls_logits(seen).permute(0, 2, 3, 1).flatten(1)
        differences = self.bbox_pred(seen).permute(0, 2, 3, 1).reshape(len(maps), -1, 4)
        return logits, differences


class RegionProposalNetwork(nn.Module):
    """Keeps ``head`` and the anchors' shapes; proposes without gradients."""

    shapes: Tensor

    def __init__(self, body: Body, sizes: Sequence[float], ratios: Sequence[float], proposing: Proposing) -> None:
        super().__init__()
        own = shapes(sizes, ratios)
        self.stride, self.proposing = body.stride, proposing
        self.register_buffer("shapes", own.to(torch.float32), persistent=False)
        self.head = RPNHead(body.maps, len(own))

    def forward(self, maps: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (n, a), differences (n, a, 4), the anchors (a, 4), and the regions proposed (r, 5)."""
        logits, differences = self.head(maps)
        places = anchors(self.shapes, self.stride, maps.shape[2], maps.shape[3]).to(maps.dtype)
        with torch.no_grad():
            rows = [self.proposed(*each, places) for each in zip(logits, differences, sizes, strict=True)]
            rois = torch.cat([nn.functional.pad(row, (1, 0), value=float(n)) for n, row in enumerate(rows)])
        return logits, differences, places, rois

    def proposed(self, logits: Tensor, differences: Tensor, size: Tensor, places: Tensor) -> Tensor:
        """The regions of one picture, best first, (k, 4): at least one, the picture as a whole where none is left."""
        height, width = (int(side) for side in size.tolist())
        how = self.proposing
        best, which = logits.topk(min(how.before, len(logits)))
        boxes = clip_boxes_to_image(decode(places[which], differences[which]), (height, width))
        kept = remove_small_boxes(boxes, how.smallest)
        kept = kept[nms(boxes[kept], best[kept], how.overlap)[: how.after]]
        return boxes[kept] if len(kept) else boxes.new_tensor([[0, 0, width, height]])


class FasterRCNN(nn.Module):
    """Pictures (n, c, h, w) and their own sizes (n, 2), all of the batch's where left out → ``Regions``.

    A training pass may be given the things that are there, ``boxes`` (k, 6): picture, x₁, y₁, x₂, y₂, class counted
    from 1. They are then regions too, and of a picture's regions some are drawn, as Fast R-CNN does, by the chance of
    its own seed of ``seeds`` int64 (n,), torch's own where they are left out.
    """

    proposes = True
    picture_part = "backbone"  # what takes pictures alone, so that the native engine can do it
    deviations = DEVIATIONS

    def __init__(
        self,
        body: Body,
        classes: int,
        hidden: int,
        dropout: float,
        pooling: Pooling,
        sizes: Sequence[float],
        ratios: Sequence[float],
        proposing: Proposing,
        learned: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.learned = body.stride, learned
        self.backbone = nn.Sequential(*body.layers)
        self.rpn = RegionProposalNetwork(body, sizes, ratios, proposing)
        self.roi_heads = RoIHeads(body, classes, hidden, dropout, pooling)
        start(self)

    def train(self, mode: bool = True) -> FasterRCNN:
        """A body of which nothing is trained stays as it is, its running statistics too: two networks share it."""
        super().train(mode)
        if mode and not any(each.requires_grad for each in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(
        self,
        pictures: Tensor,
        sizes: Tensor | None = None,
        boxes: Tensor | None = None,
        seeds: Tensor | None = None,
    ) -> Regions:
        if sizes is None:
            sizes = torch.tensor(pictures.shape[2:], device=pictures.device).expand(len(pictures), 2)
        maps = self.backbone(pictures)
        objectness, differences, places, rois = self.rpn(maps, sizes)
        if boxes is not None:
            rois = self.drawn(rois, boxes.to(rois), len(pictures), seeds)
        scores, moves = self.roi_heads(maps, rois)
        return Regions(rois, sizes.to(maps), scores, moves, places, objectness, differences)

    def drawn(self, rois: Tensor, boxes: Tensor, pictures: int, seeds: Tensor | None = None) -> Tensor:
        """Some of each picture's regions and things, (r, 5); ``seeds`` as of ``forward``."""
        how, found = self.rpn.proposing, []
        for picture in range(pictures):
            own = boxes[boxes[:, 0] == picture]
            easy = torch.zeros(len(own), dtype=torch.bool, device=own.device)
            given = rois[rois[:, 0] == picture, 1:], own[:, 1:5], own[:, 5].long() - 1, easy
            chance = None if seeds is None else seeding.generator(int(seeds[picture]), "regions")
            chosen = drawn_regions(*given, how.drawn, how.share, generator=chance)
            found.append(nn.functional.pad(chosen, (1, 0), value=float(picture)))
        return torch.cat(found)

    def carried_over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A classifier's state, or another detector's, as this network takes it: see ``fast_rcnn.carried_over``."""
        return carried_over(self, state)


@register(
    "faster_rcnn",
    Card(
        title="Faster R-CNN",
        year=2015,
        paper=PAPER,
        input_shape=(3, 600, 1000),
        classes=20,
        parameters=137_073_622,
        published="Pascal VOC 2007 mAP 69.9 %, 2012 67.0 % (73.2 and 70.4 % with more data), 5 pictures a second",
        note="VGG16's layers under torchvision's keys; one logit an anchor, a sigmoid's, for the paper's two of a "
        "softmax; `weights=` takes a classifier of the same body or another detector",
        family="rcnn",
        task="detection",
        minimum_size=32,
        economical=(("small", True), ("width", 0.25), ("hidden", 16)),
    ),
)
def faster_rcnn(
    classes: int = 20,
    in_channels: int = 3,
    body: str | None = None,
    width: float = 1.0,
    hidden: int | None = None,
    dropout: float = 0.5,
    pooling: str | None = None,
    small: bool = False,
    anchor_sizes: Sequence[float] | None = None,
    anchor_ratios: Sequence[float] = RATIOS,
    proposals: int = 300,
    learned: str | None = None,
) -> nn.Module:
    """``body``, ``width``, ``hidden``, ``dropout``, ``pooling`` as of ``fast_rcnn``; ``anchor_sizes`` in pixels of the
    network's input, ``anchor_ratios`` height over width; at most ``proposals`` regions a picture. ``learned``: the half
    that learns, "proposals" or "regions", for training in steps; None: both, jointly.

    ``small=True`` is for a computer without a GPU: the small body, anchors of 16 to 128 pixels, 256 hidden units,
    aligned regions, no dropout.
    """
    sizes = anchor_sizes if anchor_sizes is not None else _SMALL_SIZES if small else _SIZES
    if learned is not None and learned not in HALVES:
        raise UnknownNameError("learned", learned, HALVES)
    how = Proposing(before=600 if small else 6000, after=proposals)
    units, chosen = chosen_units(hidden, small), chosen_body(body, small, in_channels, width)
    return FasterRCNN(
        chosen, classes, units, 0.0 if small else dropout, checked_pooling(pooling, small), sizes, anchor_ratios, how,
        None if learned is None else HALVES[learned],
    )  # fmt: skip
