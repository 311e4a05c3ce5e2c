"""Pictures with boxes and with regions that were proposed beside: what Fast R-CNN learns from.

Regions travel with the boxes, as boxes of label ``REGION``, so that they are scaled, mirrored and cut as those are; the
last stage takes them apart again.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope import seeding
from convscope.data import Batch, FixedStage, Stage
from convscope.data.kinds.boxes import Boxes, BoxTargets
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError
from convscope.layers.box_matching import drawn_regions

REGION = -1
DRAWN, SHARE = 64, 0.25  # regions a picture, share on things


@dataclasses.dataclass(frozen=True, eq=False)
class Proposed:
    """``examples`` with the regions of each of their pictures, rows float32 (k, 4) in its own pixels."""

    kind: ClassVar[str] = Boxes.kind
    lengths: ClassVar[Tensor | None] = None

    examples: Boxes
    regions: Ragged

    def __post_init__(self) -> None:
        if len(self.regions) != len(self.examples):
            raise ArgumentError("regions", len(self.regions), f"a row for each of the {len(self.examples)} pictures")

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.examples.classes

    @property
    def channels(self) -> int:
        return self.examples.channels

    @property
    def pictures(self) -> Any:
        return self.examples.pictures

    @property
    def on_disk(self) -> bool:
        return self.examples.on_disk

    def batch(self, indices: Tensor) -> Batch:
        """As of the examples; targets hold the regions too."""
        batch = self.examples.batch(indices)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for (boxes, labels, difficult), place in zip(batch.targets.of_each(), indices.tolist(), strict=True):
            regions = self.regions[place]
            more = torch.full((len(regions),), REGION)
            easy = torch.zeros(len(regions), dtype=torch.bool)
            rows.append((torch.cat((boxes, regions)), torch.cat((labels, more)), torch.cat((difficult, easy))))
        return dataclasses.replace(batch, targets=joined(rows))

    def weight(self, indices: Tensor) -> float:
        return self.examples.weight(indices)

    def select(self, indices: Tensor) -> Proposed:
        return Proposed(self.examples.select(indices), self.regions.select(indices))

    def fingerprint(self, checksum: int = 0) -> int:
        return self.examples.fingerprint(checksum)

    def describe(self) -> dict[str, Any]:
        return self.examples.describe()


def joined(rows: list[tuple[Tensor, Tensor, Tensor]]) -> BoxTargets:
    """(boxes, labels, difficult) of each picture, one after another."""
    boxes, labels, difficult = (torch.cat(parts) for parts in zip(*rows, strict=True))
    counts = torch.tensor([len(row[1]) for row in rows], device=boxes.device)
    return BoxTargets(boxes, labels, difficult, counts)


def _apart(batch: Batch) -> list[tuple[tuple[Tensor, Tensor, Tensor], Tensor]]:
    """The things of each picture, and its regions (k, 4)."""
    found = []
    for boxes, labels, difficult in batch.targets.of_each():
        things = labels != REGION
        found.append(((boxes[things], labels[things], difficult[things]), boxes[~things]))
    return found


def _with_regions(batch: Batch, rows: list[tuple[Tensor, Tensor, Tensor]], regions: list[Tensor]) -> Batch:
    """Regions as the third input, (r, 5), the picture's number before each."""
    numbered = [torch.nn.functional.pad(each, (1, 0), value=float(place)) for place, each in enumerate(regions)]
    return dataclasses.replace(batch, inputs=(*batch.inputs[:2], torch.cat(numbered)), targets=joined(rows))


def all_regions(batch: Batch) -> Batch:
    """Every region, for evaluation."""
    parts = _apart(batch)
    return _with_regions(batch, [row for row, _ in parts], [regions for _, regions in parts])


def drawing(background: float, scales: int = 0) -> Stage:
    """The stage that draws of each picture's regions and things as many as the papers do, for training; what is drawn
    as background overlaps a thing by ``background`` at least. Of a network of several ``scales`` it draws one for each
    picture too, as the fourth input (``models.picture_pyramid``)."""

    def some_regions(batch: Batch, generator: torch.Generator) -> Batch:
        parts = _apart(batch)
        seeds = seeding.seeds(generator, len(parts)).tolist()
        chosen = [
            drawn_regions(regions, *thing, DRAWN, SHARE, background, torch.Generator().manual_seed(seed))
            for (thing, regions), seed in zip(parts, seeds, strict=True)
        ]
        ready = _with_regions(batch, [row for row, _ in parts], chosen)
        if scales == 0:
            return ready
        levels = drawn_levels(scales, len(parts), generator).to(batch.inputs[1].device)
        return dataclasses.replace(ready, inputs=(*ready.inputs, levels))

    return Stage("regions", some_regions)


def drawn_levels(scales: int, count: int, generator: torch.Generator) -> Tensor:
    """int64 (count, 2): which scale each picture is seen in, and the largest of the whole batch, of which this process
    may have a share only."""
    most: list[int] = []

    def draw(whole: int) -> Tensor:
        levels = torch.randint(scales, (whole,), generator=generator)
        most.append(int(levels.max()))
        return levels

    own = seeding.drawn(generator, count, draw)
    return torch.stack((own, torch.full_like(own, most[0])), 1)


EVERY = FixedStage("regions", all_regions)
