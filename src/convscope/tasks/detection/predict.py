"""What is in pictures of any size, and where: boxes drawn, JSON, and Pascal VOC's XML."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.columns import shown
from convscope.data.given import GivenPicture, Images, given_pictures
from convscope.errors import ArgumentError
from convscope.files import write_text
from convscope.layers.box_coding import DEVIATIONS
from convscope.models.fast_rcnn import Regions
from convscope.tasks.detection.answers import Found, found_in
from convscope.tasks.detection.drawing import with_boxes, write_png
from convscope.tasks.detection.preparing import detector_inputs
from convscope.tasks.detection.proposals import KeptProposals, method_of
from convscope.tasks.detection.scaling import Scale, on_canvas, on_one, scaled
from convscope.tasks.detection.settings import DetectionSettings
from convscope.tasks.detection.steps import Steps, drawn, steps_of
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import preprocessing_for

_TOGETHER = 8  # pictures of one size that are answered at once
_READ = 1 << 27  # numbers of those that are read at once: of pictures of 8,000×6,000 one


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """What was found in a picture: ``found`` in its own pixels, best first; labels number ``classes``.

    ``shown`` is the score from which on things are told and drawn, ``steps`` what the boxes were made of.
    """

    task: ClassVar[str] = "detection"

    source: str
    classes: tuple[str, ...]
    found: Found
    picture: GivenPicture
    size: tuple[int, int]  # (height, width)
    steps: Steps
    shown: float = 0.5

    def things(self, least: float = 0.0) -> list[tuple[str, float, tuple[float, ...]]]:
        """(class, score, (x₁, y₁, x₂, y₂)) of those of a score of at least ``least``, best first."""
        kept = self.found.above(least)
        return [
            (self.classes[label], score, tuple(box))
            for label, score, box in zip(kept.labels.tolist(), kept.scores.tolist(), kept.boxes.tolist(), strict=True)
        ]

    def line(self, most: int) -> str:
        counts: dict[str, int] = {}
        for name, _, _ in self.things(self.shown):
            counts[name] = counts.get(name, 0) + 1
        told = sorted(counts.items(), key=lambda item: -item[1])[:most]
        text = "  ".join(f"{count} {shown(name)}" for name, count in told) or f"nothing of a score from {self.shown:g}"
        return f"{shown(self.source)}: {text}"

    def to_json(self) -> dict[str, Any]:
        things = [
            {"class": name, "score": round(score, 6), "box": [round(each, 2) for each in box]}
            for name, score, box in self.things()
        ]
        return {"picture": self.source, "height": self.size[0], "width": self.size[1], "things": things}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [
            (self.source, name, f"{score:.6f}", *(f"{each:.2f}" for each in box))
            for name, score, box in self.things(self.shown)
        ]

    def to_xml(self) -> str:
        """As Pascal VOC's annotations, which count pixels from 1 and name the first and the last one in a box."""
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = Path(self.source).name
        size = ElementTree.SubElement(root, "size")
        depth = self.picture.pixels().shape[0]
        for name, pixels in (("width", self.size[1]), ("height", self.size[0]), ("depth", depth)):
            ElementTree.SubElement(size, name).text = str(pixels)
        for name, score, (x1, y1, x2, y2) in self.things(self.shown):
            thing = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(thing, "name").text = name
            ElementTree.SubElement(thing, "difficult").text = "0"
            ElementTree.SubElement(thing, "score").text = f"{score:.6f}"
            edges = ElementTree.SubElement(thing, "bndbox")
            for edge, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
                ElementTree.SubElement(edges, edge).text = str(round(value))
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode") + "\n"

    def save(self, folder: Path) -> list[Path]:
        """``<name>-boxes.png``, ``<name>.json`` and ``<name>.xml``; a picture's name is its path with - for /."""
        name = self.picture.flat_name
        kept, texts = self._drawn()
        boxes = with_boxes(self.picture.pixels()[:3], kept.boxes, kept.labels.tolist(), texts)
        picture = write_png(folder / f"{name}-boxes.png", boxes)
        whole, annotation = folder / f"{name}.json", folder / f"{name}.xml"
        write_text(whole, json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n")
        write_text(annotation, self.to_xml())
        return [picture, whole, annotation]

    def save_steps(self, folder: Path) -> list[Path]:
        """``<name>-steps.png``: regions, anchors and windows beside the boxes (``detection.steps``)."""
        picture = drawn(self.picture.pixels()[:3], *self._drawn(), self.steps)
        return [write_png(folder / f"{self.picture.flat_name}-steps.png", picture)]

    def _drawn(self) -> tuple[Found, list[str]]:
        """What is drawn, and what is written beside each box."""
        texts = [f"{thing} {score:.2f}" for thing, score, _ in self.things(self.shown)]
        return self.found.above(self.shown), texts


def predict(
    network: nn.Module,
    images: Images,
    settings: DetectionSettings,
    batch_size: int = 64,
    preprocessing: spec.Preprocessing | None = None,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Detection]:
    """What is in every picture, each in its own pixels.

    ``images``: see ``convscope.data.given.given_pictures``. Pictures of one size that follow each other are answered
    together. Raises DataError for a missing, unreadable or damaged picture, ArgumentError for an empty request, wrong
    types, a model without preprocessing, and one whose outputs are no numbers.
    """
    settings.use_in(network)
    described = spec.spec_of(network)
    preprocessing = preprocessing or preprocessing_for(network)
    sources = list(given_pictures(images))
    if not sources:
        raise ArgumentError("images", images, "at least one picture")
    inference = prepare_inference(network, detector_inputs(preprocessing), engine, len(sources))
    told(inference)
    names = described.classes if described is not None else ()
    deviations = getattr(network, "deviations", DEVIATIONS)
    margins = bool(getattr(network, "margins", False))
    scale = Scale(settings.shorter, settings.longest)
    kept = None
    if not getattr(network, "proposes", False):
        kept = KeptProposals(method_of(settings.proposals), settings.regions)
    for group in _groups(sources, min(batch_size, _TOGETHER)):
        pictures = [pixels for _, pixels in group]
        ready = [scaled(picture, scale, preprocessing) for picture in pictures]
        height, width = ready[0].shape[1:]
        canvas = on_one(ready, preprocessing, (on_canvas(height), on_canvas(width)))
        sizes = torch.tensor([[height, width]] * len(group))
        regions = [] if kept is None else [_regions(kept, ready)]
        outputs = checked(inference.outputs((canvas, sizes, *regions)))
        classes = names or tuple(map(str, range(outputs.scores.shape[1] - 1)))
        answers = found_in(outputs, sizes, settings, deviations, margins)
        for place, ((source, picture), found) in enumerate(zip(group, answers, strict=True)):
            size = (picture.shape[1], picture.shape[2])
            factors = torch.tensor([size[1] / width, size[0] / height]).repeat(2)
            parts = found.labels.cpu(), found.scores.cpu(), found.regions.cpu()
            own = Found(found.boxes.cpu() * factors, *parts)
            steps = steps_of(network, outputs, place, factors)
            yield Detection(source.name, classes, own, source, size, steps, settings.shown)


def _regions(kept: KeptProposals, pictures: Sequence[Tensor]) -> Tensor:
    """(r, 5): the regions of all pictures, the picture's number before each."""
    return torch.cat(
        [nn.functional.pad(kept.of(each), (1, 0), value=float(place)) for place, each in enumerate(pictures)]
    )


def checked(outputs: Any) -> Regions:
    """``outputs`` where they are a detector's and numbers; ArgumentError else."""
    if not isinstance(outputs, Regions):
        raise ArgumentError("model", f"outputs of type {type(outputs).__name__}", "a detector's, Regions")
    if not (outputs.scores.isfinite().all() and outputs.differences.isfinite().all()):
        hint = "Its weights may have exploded in training"
        raise ArgumentError("model", "outputs that are no numbers", "a model whose outputs are finite", hint)
    return outputs


def _groups(sources: Sequence[GivenPicture], most: int) -> Iterator[list[tuple[GivenPicture, Tensor]]]:
    """Neighbours of one size with their pixels, read once, as many as are answered at once."""
    group: list[tuple[GivenPicture, Tensor]] = []
    for source in sources:
        pixels = source.pixels()
        if group and (
            pixels.shape != group[0][1].shape or len(group) == most or (len(group) + 1) * pixels.numel() > _READ
        ):
            yield group
            group = []
        group.append((source, pixels))
    if group:
        yield group
