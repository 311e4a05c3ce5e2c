"""Pictures with boxes brought to the size that a detector works in, side by side on one canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.data import Batch, FixedStage
from convscope.data.kinds.boxes import BoxTargets
from convscope.data.transforms import convert_channels, fit_size
from convscope.spec import Preprocessing

#: A canvas has sides of a multiple of so many pixels, so that bodies of any stride have whole places.
STEP = 16
LEAST = 32


@dataclasses.dataclass(frozen=True)
class Scale:
    """The paper's rule: the shorter side gets ``shorter`` pixels, unless the longer one would have more than
    ``longest``."""

    shorter: int
    longest: int

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture is brought to."""
        factor = min(self.shorter / min(height, width), self.longest / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def canvas(self, sizes: Tensor) -> tuple[int, int]:
        """(height, width) on which all pictures of these sizes (n, 2) have room."""
        scaled = [self.target(*size) for size in torch.unique(sizes, dim=0).tolist()]
        return on_canvas(max(height for height, _ in scaled)), on_canvas(max(width for _, width in scaled))


def on_canvas(side: int) -> int:
    """``side`` rounded up to what a canvas may have."""
    return max(LEAST, -(-side // STEP) * STEP)


def scaled(picture: Tensor, scale: Scale, preprocessing: Preprocessing) -> Tensor:
    """uint8 (c, h, w) in the model's channels and size."""
    converted = convert_channels(picture.unsqueeze(0), preprocessing.channels)
    return fit_size(converted, scale.target(picture.shape[1], picture.shape[2]))[0]


def on_one(pictures: Sequence[Tensor], preprocessing: Preprocessing, size: tuple[int, int]) -> Tensor:
    """uint8 (n, c, *size): each at the upper left, beyond it the mean colour, which the model sees as 0."""
    mean = torch.tensor([round(255 * value) for value in preprocessing.mean], dtype=torch.uint8)
    canvas = mean.to(pictures[0].device).reshape(1, -1, 1, 1).repeat(len(pictures), 1, *size)
    for place, picture in enumerate(pictures):
        canvas[place, :, : picture.shape[1], : picture.shape[2]] = picture
    return canvas


def scaling(scale: Scale, preprocessing: Preprocessing, canvas: tuple[int, int]) -> FixedStage:
    """The stage that scales pictures, their sizes and their boxes, on a canvas of one size, so that an answer does not
    depend on what else is in the batch."""

    def fit(batch: Batch) -> Batch:
        pictures, sizes = batch.inputs
        own = sizes.tolist()
        ready = [
            scaled(picture[:, :height, :width], scale, preprocessing)
            for picture, (height, width) in zip(pictures, own, strict=True)
        ]
        small = torch.tensor([each.shape[1:] for each in ready], device=sizes.device)
        factors = (small / sizes).flip(1).repeat(1, 2)  # of x and y
        targets = moved_targets(batch.targets, factors)
        return dataclasses.replace(batch, inputs=(on_one(ready, preprocessing, canvas), small), targets=targets)

    return FixedStage("fit", fit)


def moved_targets(targets: BoxTargets, factors: Tensor) -> BoxTargets:
    """Boxes times their pictures' factors (n, 4)."""
    return dataclasses.replace(targets, boxes=targets.boxes * factors[targets.pictures()].to(targets.boxes))
