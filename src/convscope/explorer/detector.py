"""A detector on the page: all of its layers for one of its regions, and where every box comes from.

A detector takes several inputs and answers for hundreds of regions. ``OneRegion`` is the same network, by the same
parameters, from a picture to the class scores of one region: a classifier, of which everything can be shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError
from convscope.explorer.inputs import Desk, Picture, Stage, thumbnail
from convscope.inspect.inputs import InputOfModel
from convscope.layers.regions import roi_align
from convscope.models.fast_rcnn import FastRCNN, Regions
from convscope.models.faster_rcnn import FasterRCNN
from convscope.models.rcnn import RCNN
from convscope.spec import spec_of
from convscope.tasks.detection.answers import probabilities_of
from convscope.tasks.detection.proposals import KeptProposals, method_of
from convscope.tasks.detection.scaling import Scale, on_one, scaled
from convscope.tasks.detection.settings import DetectionSettings
from convscope.tasks.detection.task import DetectionTask


class OneRegion(nn.Module):
    """A picture (1, c, h, w) → the scores (1, classes + 1) of the region (1, 5) that ``look_at`` has set last."""

    region: Tensor

    def __init__(self, model: FastRCNN | FasterRCNN) -> None:
        super().__init__()
        self.backbone, self.pool, self.box_head = model.backbone, model.roi_heads.pool, model.roi_heads.box_head
        self.cls_score = model.roi_heads.box_predictor.cls_score
        self.register_buffer("region", torch.tensor([[0.0, 0, 0, 16, 16]]), persistent=False)

    def look_at(self, box: Tensor) -> None:
        self.region[0, 1:] = box

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cls_score(self.box_head(self.pool(self.backbone(x), self.region)))
        return y


class OneWarped(nn.Module):
    """The same of R-CNN, which warps the region with its surroundings and puts that through the network."""

    region: Tensor

    def __init__(self, model: RCNN) -> None:
        super().__init__()
        self.side, self._windows = model.side, model.windows
        self.features, self.cls_score = model.features, model.cls_score
        self.fc6, self.relu6, self.drop6 = model.fc6, model.relu6, model.drop6
        self.fc7, self.relu7, self.drop7 = model.fc7, model.relu7, model.drop7
        self.register_buffer("region", torch.tensor([[0.0, 0, 0, 16, 16]]), persistent=False)

    def look_at(self, box: Tensor) -> None:
        self.region[0, 1:] = self._windows(box[None])[0]

    def forward(self, x: Tensor) -> Tensor:
        warped = roi_align(x, self.region, self.side, 1.0, 1, True)
        units = self.drop6(self.relu6(self.fc6(torch.flatten(self.features(warped), 1))))
        y: Tensor = self.cls_score(self.drop7(self.relu7(self.fc7(units))))
        return y


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What the whole network answers to a picture, (1, c, h, w), whose own part has ``size`` (height, width)."""

    x: Tensor
    size: tuple[int, int]
    outputs: Regions


class Detector:
    """The whole network beside its ``view``; ``seen`` is its answer to the picture shown, ``chosen`` (region, label)
    what the view looks at."""

    def __init__(
        self, model: FastRCNN | FasterRCNN | RCNN, settings: DetectionSettings, classes: tuple[str, ...]
    ) -> None:
        self.model, self.settings = model.eval(), settings
        self.view: OneRegion | OneWarped = OneWarped(model) if isinstance(model, RCNN) else OneRegion(model)
        self.scale = Scale(settings.shorter, settings.longest)
        self.classes = classes or tuple(str(each) for each in range(model_classes(model)))
        self.margins = bool(getattr(model, "margins", False))
        self.seen: Seen | None = None
        self.chosen = (0, 0)

    @property
    def names(self) -> list[str]:
        """Of the view's outputs: background, then the classes."""
        return ["background", *self.classes]

    def describe(self) -> dict[str, Any]:
        return {
            "proposes": bool(self.model.proposes),
            "margins": self.margins,
            "classes": list(self.classes),
            "score": self.settings.score,
            "shown": self.settings.shown,
            "overlap": self.settings.overlap,
        }

    @torch.no_grad()
    def look(self, x: Tensor, picture: Picture) -> Seen:
        """Run the whole network; with the same x and other weights too, which the page may have changed."""
        inside = picture.source.get("inside")
        size = (int(inside[0]), int(inside[1])) if inside else (x.shape[2], x.shape[3])
        given = []
        if not self.model.proposes:
            kept = KeptProposals(method_of(self.settings.proposals), self.settings.regions)
            boxes = kept.of(picture.pixels[0, :, : size[0], : size[1]].contiguous())
            given = [nn.functional.pad(boxes, (1, 0)).to(x)]
        outputs = self.model(x, torch.tensor([size]), *given)
        self.seen = Seen(x, size, outputs)
        return self.seen

    def look_first(self, x: Tensor, picture: Picture) -> None:
        """Of a new picture the region of the best box, or the first one where there is none."""
        seen = self.look(x, picture)
        probabilities = self.probabilities(seen)[:, 1:]
        region, label = divmod(int(probabilities.argmax()), probabilities.shape[1])
        self.choose(region, label)

    def choose(self, region: int, label: int) -> None:
        """Let the view look at a region; ArgumentError for one that there is not."""
        assert self.seen is not None
        count = len(self.seen.outputs.rois)
        if region >= count:
            raise ArgumentError("region", region, f"0…{count - 1}, one of the regions")
        if label >= len(self.classes):
            raise ArgumentError("label", label, f"0…{len(self.classes) - 1}, one of the classes")
        self.chosen = (region, label)
        self.view.look_at(self.seen.outputs.rois[region, 1:])

    def check_field(self, layers: Sequence[str], name: str) -> None:
        """ArgumentError for a layer whose field is the chosen region's: what it sees is not a matter of its place."""
        first = next(place for place, each in enumerate(layers) if each.split("_")[-1] in ("pool", "align"))
        before = list(layers)[:first]
        if name not in before and not (name == "input" and before):
            wanted = "a layer before the region is pooled: what this one sees hangs on the region chosen"
            raise ArgumentError("layer", name, wanted, "The tab of boxes shows the region and its bins")

    def probabilities(self, seen: Seen) -> Tensor:
        """(r, classes + 1), background first."""
        return probabilities_of(seen.outputs, self.margins)


def model_classes(model: FastRCNN | FasterRCNN | RCNN) -> int:
    """The classes that a detector tells apart, background not counted."""
    last = model.cls_score if isinstance(model, RCNN) else model.roi_heads.box_predictor.cls_score
    return last.out_features - 1


def detector_of(model: nn.Module) -> Detector | None:
    """``model`` as a detector, None for any other; ArgumentError for one that cannot be shown, by name."""
    if not isinstance(model, FastRCNN | FasterRCNN | RCNN):
        return None
    settings = DetectionTask().settings_for(model)
    if settings.scales:
        wanted = "one of a single scale: a region's place and picture are then one"
        raise ArgumentError("model", f"Fast R-CNN on several scales ({settings.scales})", wanted)
    described = spec_of(model)
    classes = described.classes if described is not None else ()
    return Detector(model, settings, tuple(classes) if len(classes) == model_classes(model) else ())


class DetectorDesk(Desk):
    """Pictures as a detector sees them: scaled with their sides' ratio kept, on a canvas of the mean colour."""

    def __init__(self, takes: InputOfModel, scale: Scale) -> None:
        super().__init__(takes, None)
        self.scale = scale

    def _prepared(self, pixels: Tensor, source: dict[str, Any], label: int | None) -> Picture:
        wanted, canvas = self.preprocessing, self.picture_shape[1:]
        stages = [Stage("original", {"shape": list(pixels.shape[1:])}, thumbnail(pixels))]
        converted = convert_channels(pixels, wanted.channels)
        if converted.shape[1] != pixels.shape[1]:
            stages.append(Stage("channels", {"channels": wanted.channels}, thumbnail(converted)))
        height, width = converted.shape[2:]
        fits = min(1.0, *(side / own for side, own in zip(canvas, self.scale.target(height, width), strict=True)))
        target = [max(1, int(side * fits)) for side in self.scale.target(height, width)]
        small = scaled(converted[0], Scale(min(target), max(target)), wanted)[:, : canvas[0], : canvas[1]]
        ready = on_one([small], wanted, canvas)
        stages.append(Stage("size", {"fit": "canvas", "size": list(small.shape[1:])}, ready))
        inside = {**source, "inside": list(small.shape[1:])}
        return Picture(ready, inside, (*stages, *self._last(ready)), None)
