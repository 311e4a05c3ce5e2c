"""From what a detector answers to boxes: differences applied, cut at the edges, thresholds, NMS a class."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from convscope.layers.box_coding import decode
from convscope.layers.boxes import batched_nms, clip_boxes_to_image, remove_small_boxes
from convscope.models.fast_rcnn import Regions


class Limits(Protocol):
    """Of the page of settings, what concerns the answers."""

    @property
    def score(self) -> float: ...
    @property
    def overlap(self) -> float: ...
    @property
    def most(self) -> int: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What was found in one picture, best first: ``boxes`` (k, 4), ``labels`` int64 (k,) from 0, ``scores`` (k,), and
    ``regions`` int64 (k,), which of the picture's regions each was made of."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    regions: Tensor

    def above(self, score: float) -> Found:
        """Those of at least that score."""
        kept = self.scores >= score
        return Found(self.boxes[kept], self.labels[kept], self.scores[kept], self.regions[kept])


def found_in(
    outputs: Regions, sizes: Tensor, limits: Limits, deviations: tuple[float, ...], margins: bool = False
) -> list[Found]:
    """What is in each of the n pictures of these ``sizes`` (n, 2), in pixels of the model's input. ``margins``: scores
    are those of one classifier a class, which say nothing of each other; told is their logistic function."""
    answers: list[Found] = []
    probabilities = probabilities_of(outputs, margins)
    for picture, (height, width) in enumerate(sizes.tolist()):
        own = outputs.rois[:, 0] == picture
        given = candidates(
            outputs.rois[own, 1:], probabilities[own], outputs.differences[own], limits.score, deviations
        )
        answers.append(best_of(given, (int(height), int(width)), limits))
    return answers


def probabilities_of(outputs: Regions, margins: bool) -> Tensor:
    """(r, classes + 1), background first; ``margins`` as of ``found_in``."""
    scores = outputs.scores.float()
    return torch.sigmoid(scores) if margins else torch.softmax(scores, 1)


def candidates(
    rois: Tensor, probabilities: Tensor, differences: Tensor, score: float, deviations: tuple[float, ...]
) -> Found:
    """One picture's boxes before NMS, in the order of its regions ``rois`` (r, 4): of every region and class of at
    least that score, background apart."""
    scores = probabilities[:, 1:]
    region, label = torch.nonzero(scores >= score, as_tuple=True)
    boxes = decode(rois[region].float(), differences[:, 1:][region, label].float(), deviations)
    return Found(boxes, label, scores[region, label], region)


def best_of(given: Found, size: tuple[int, int], limits: Limits) -> Found:
    """Cut at the edges, without what has no area, NMS a class, the best ``limits.most``."""
    boxes, labels, scores = given.boxes, given.labels, given.scores
    boxes = clip_boxes_to_image(boxes, size)
    kept = remove_small_boxes(boxes, 1e-2)
    kept = kept[batched_nms(boxes[kept], scores[kept], labels[kept], limits.overlap)[: limits.most]]
    return Found(boxes[kept], labels[kept], scores[kept], given.regions[kept])
