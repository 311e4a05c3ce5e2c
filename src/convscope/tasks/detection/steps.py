"""How boxes came about, as a picture: regions, anchors and what they become, the bins that regions are pooled by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from convscope.layers.box_coding import decode
from convscope.layers.boxes import nms
from convscope.models.fast_rcnn import GRID, Regions
from convscope.models.rcnn import RCNN
from convscope.tasks.detection.answers import Found
from convscope.tasks.detection.drawing import colour_of, with_boxes

#: So many can be told apart on a picture of 320×240: with all 226 of a picture of cells nothing of it is seen.
REGIONS, ANCHORS, WINDOWS = 60, 12, 8
_LOOKED_AT, _APART = 600, 0.3  # the twelve best of all lie on one cell, so of anchors that become one box one is shown
_SHORT = 360  # pixels that a panel's shorter side has at least
_PAPER, _INK, _FAINT = "#ffffff", "#1f2430", "#e8b31a"
_TITLE = 26


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What an answer for one picture was made of, in the picture's own pixels.

    ``regions`` (r, 4) as they came, best first where the network proposes itself; ``anchors`` (k, 4) those with the
    highest ``objectness`` (k,), probabilities, and ``moved`` (k, 4) the boxes their differences make of them, of boxes
    that overlap the best alone: None of a network that is given its regions. A region is pooled by ``bins`` across and
    down from ``windows`` (r, 4), which is the region itself, and of R-CNN what is warped, with its surroundings.
    """

    regions: Tensor
    windows: Tensor
    bins: tuple[int, int]
    anchors: Tensor | None = None
    moved: Tensor | None = None
    objectness: Tensor | None = None


def steps_of(model: nn.Module, outputs: Regions, place: int, factors: Tensor) -> Steps:
    """The steps of the batch's picture number ``place``; ``factors`` (4,) take boxes to its own pixels."""
    rois = outputs.rois[outputs.rois[:, 0] == place, 1:].float()
    windows, bins = rois, (GRID, GRID)
    if isinstance(model, RCNN):
        windows, bins = model.windows(rois), (1, 1)  # the network takes it as a picture
    found = Steps(rois.cpu() * factors, windows.cpu() * factors, bins)
    if outputs.objectness is None or outputs.anchors is None or outputs.anchor_differences is None:
        return found
    logits = outputs.objectness[place].float()
    best, which = logits.topk(min(_LOOKED_AT, len(logits)))
    anchors = outputs.anchors[which].float()
    moved = decode(anchors, outputs.anchor_differences[place, which].float())
    apart = nms(moved, best, _APART)[:ANCHORS]
    best, anchors, moved = (each[apart].cpu() for each in (torch.sigmoid(best), anchors, moved))
    return dataclasses.replace(found, anchors=anchors * factors, moved=moved * factors, objectness=best)


def drawn(pixels: Tensor, found: Found, texts: Sequence[str], steps: Steps) -> Image.Image:
    """Panels side by side, two in a row: the boxes ``found``; the first regions, in colour those that boxes came from;
    of a network that has them the best anchors and what they become; the windows of the best boxes with their bins."""
    panels = [(f"{len(found.labels)} boxes", with_boxes(pixels, found.boxes, found.labels.tolist(), texts))]
    labels = found.labels.tolist()
    panels.append(_regions_of(pixels, found, labels, steps))
    if steps.anchors is not None and steps.moved is not None and steps.objectness is not None:
        panels.append(_anchors_of(pixels, steps.anchors, steps.moved, steps.objectness))
    panels.append(_windows_of(pixels, found, labels, steps))
    return _together([(title, _at_least(panel)) for title, panel in panels])


class _Sheet:
    """The picture, enlarged so that lines can be told, and a pen that draws in the picture's own pixels."""

    def __init__(self, pixels: Tensor) -> None:
        array = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        picture = Image.fromarray(array)
        self.factor = max(1.0, _SHORT / min(picture.size))
        size = (round(picture.width * self.factor), round(picture.height * self.factor))
        self.picture = picture.resize(size, Image.Resampling.BILINEAR)
        self.pen = ImageDraw.Draw(self.picture)
        self.line = max(1, round(max(size) / 450))

    def box(self, box: Sequence[float], colour: str, width: int = 1) -> None:
        x1, y1, x2, y2 = (self.factor * value for value in box)
        self.pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=width * self.line)

    def arrow(self, start: Sequence[float], end: Sequence[float], colour: str) -> None:
        (x1, y1), (x2, y2) = ((self.factor * (b[0] + b[2]) / 2, self.factor * (b[1] + b[3]) / 2) for b in (start, end))
        self.pen.line((x1, y1, x2, y2), fill=colour, width=self.line)
        radius = 2 * self.line
        self.pen.ellipse((x2 - radius, y2 - radius, x2 + radius, y2 + radius), fill=colour)

    def bins(self, box: Sequence[float], bins: tuple[int, int], colour: str) -> None:
        """The lines between the bins of a region."""
        x1, y1, x2, y2 = (self.factor * value for value in box)
        for step in range(1, bins[1]):
            x = x1 + (x2 - x1) * step / bins[1]
            self.pen.line((x, y1, x, y2), fill=colour, width=1)
        for step in range(1, bins[0]):
            y = y1 + (y2 - y1) * step / bins[0]
            self.pen.line((x1, y, x2, y), fill=colour, width=1)


def _regions_of(pixels: Tensor, found: Found, labels: list[int], steps: Steps) -> tuple[str, Image.Image]:
    sheet = _Sheet(pixels)
    for region in steps.regions[:REGIONS].tolist():
        sheet.box(region, _FAINT)
    for region, label in zip(found.regions.tolist(), labels, strict=True):
        sheet.box(steps.regions[region].tolist(), colour_of(label), 2)
    shown = f"the first {REGIONS} of {len(steps.regions):,}" if len(steps.regions) > REGIONS else len(steps.regions)
    return f"regions: {shown}; in colour those of the boxes", sheet.picture


def _anchors_of(pixels: Tensor, anchors: Tensor, moved: Tensor, objectness: Tensor) -> tuple[str, Image.Image]:
    sheet = _Sheet(pixels)
    for place in reversed(range(len(anchors))):
        before, after = anchors[place].tolist(), moved[place].tolist()
        sheet.box(before, _FAINT)
        sheet.box(after, colour_of(0), 2)
        sheet.arrow(before, after, colour_of(0))
    least = f", p from {float(objectness.min()):.2f}" if len(objectness) else ""
    return f"the {len(anchors)} best anchors (yellow) and where they move{least}", sheet.picture


def _windows_of(pixels: Tensor, found: Found, labels: list[int], steps: Steps) -> tuple[str, Image.Image]:
    sheet = _Sheet(pixels)
    count = min(WINDOWS, len(labels))
    for place in reversed(range(count)):
        window = steps.windows[found.regions[place]].tolist()
        sheet.bins(window, steps.bins, _FAINT)
        sheet.box(window, _FAINT)
        sheet.box(found.boxes[place].tolist(), colour_of(labels[place]), 2)
    what = "what is warped" if steps.bins == (1, 1) else f"{steps.bins[0]} by {steps.bins[1]} bins of the regions"
    return f"{what} (yellow), and the {count} best boxes", sheet.picture


def _at_least(picture: Image.Image) -> Image.Image:
    factor = _SHORT / min(picture.size)
    if factor <= 1:
        return picture
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _together(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    wide, tall = (max(getattr(panel, side) for _, panel in panels) for side in ("width", "height"))
    font = ImageFont.load_default(15)
    rows = -(-len(panels) // 2)
    sheet = Image.new("RGB", (2 * wide + 8, rows * (tall + _TITLE)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (title, panel) in enumerate(panels):
        x, y = (place % 2) * (wide + 8), (place // 2) * (tall + _TITLE)
        pen.text((x + 4, y + 4), title, fill=_INK, font=font)
        sheet.paste(panel, (x, y + _TITLE))
    return sheet
