"""The page of settings of detection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.models.fast_rcnn import FastRCNN
from convscope.tasks.detection.proposals import METHODS

PAPER_SCALES = "480,576,688,864,1200"  # Girshick 2015, section 5.2, as He et al. 2014


@dataclasses.dataclass(frozen=True)
class DetectionSettings:
    """Pictures are scaled until their shorter side has ``shorter`` pixels, or their longer one ``longest``.

    Answered are boxes of a score of at least ``score``; of those of one class that overlap by more than ``overlap``
    only the best, and of all these the ``most`` best. Drawn and told are those from ``shown`` on.

    A network that does not propose regions itself gets at most ``regions`` of each picture by ``proposals``:
    "selective_search", "grid", or "auto", the first where it is installed (see ``proposals.propose``).

    ``scales``, of Fast R-CNN: pixels of the shorter side, "480,576,688,864,1200" for those of the paper, or "paper";
    pictures then go through the body at each of them, enlarged from ``shorter`` (``models.picture_pyramid``).
    """

    shorter: int = 600
    longest: int = 1000
    score: float = 0.05
    overlap: float = 0.3
    most: int = 100
    shown: float = 0.5
    proposals: str = "auto"
    regions: int = 2000
    scales: str = ""

    @property
    def pyramid(self) -> tuple[float, ...]:
        """The factors from ``shorter`` to each of ``scales``; ArgumentError for what is no list of them."""
        given = PAPER_SCALES if self.scales == "paper" else self.scales
        if not given:
            return ()
        try:
            sides = [int(each) for each in given.split(",")]
        except ValueError:
            sides = []
        if not sides or min(sides) < 16 or sides != sorted(set(sides)):
            wanted = f'whole numbers of pixels from 16 on, the smallest first, such as "{PAPER_SCALES}", or "paper"'
            raise ArgumentError("scales", self.scales, wanted)
        return tuple(side / self.shorter for side in sides)

    def check(self) -> None:
        """ArgumentError, naming it, for a value that cannot work."""
        for name in ("shorter", "longest", "most", "regions"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "an integer ≥ 1")
        if self.longest < self.shorter:
            raise ArgumentError("longest", self.longest, f"at least the shorter side's pixels, {self.shorter}")
        for name in ("score", "overlap", "shown"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(name, getattr(self, name), "a number from 0 to 1")
        if self.proposals not in METHODS:
            raise UnknownNameError("proposals", self.proposals, METHODS)
        _ = self.pyramid

    def use_in(self, model: nn.Module) -> None:
        """Let ``model`` look at its pictures in these scales; ArgumentError for one that cannot."""
        if isinstance(model, FastRCNN):
            model.pyramid = self.pyramid
        elif self.scales:
            raise ArgumentError("scales", self.scales, f"Fast R-CNN, not {type(model).__name__}, which has one scale")


def of_model(more: Mapping[str, Any], given: DetectionSettings, named: frozenset[str]) -> DetectionSettings:
    """What a trained model keeps (``more``), but for what was ``named`` now."""
    known = {field.name for field in dataclasses.fields(DetectionSettings)}
    kept = {name: value for name, value in more.items() if name in known and name not in named}
    return dataclasses.replace(given, **kept)
