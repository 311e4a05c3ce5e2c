"""What R-CNN fits after its network: support vector machines on its units, and a regression from its maps to boxes.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection, CVPR 2014, section 2.3 and
appendices B and C.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy
import torch
from torch import Tensor

from convscope import seeding
from convscope.data import Dataset
from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.errors import ArgumentError
from convscope.layers.box_coding import encode
from convscope.layers.boxes import box_iou
from convscope.models.rcnn import RCNN
from convscope.training.task import Task, model_inputs

NEGATIVE = 0.3  # a region that overlaps a class's things by less is none of that class
NEAR = 0.6  # a region must overlap a thing by so much to learn where it is
LAMBDA = 1000.0
C = 1e-3
FIRST, ROUNDS = 2000, 4  # negatives that mining begins with, and how often it looks for more
HARD, EASY = -1.0, -1.2  # a negative above the first is taken in, one below the second is dropped
_LENGTH = 20.0  # to which the mean length of the units is brought, for which C is meant


@dataclasses.dataclass(frozen=True)
class Features:
    """What the network makes of k regions of the training pictures, the true boxes among them.

    ``units`` (k, hidden) of ``fc7``; ``truth`` int64 (k,), the class of a true box, −1 of another region; ``overlaps``
    (k, classes) with the nearest thing of each class. Of the p regions near a thing: ``maps`` (p, m) of the last
    pooling, their class ``near`` int64 (p,), ``moves`` (p, 4) to that thing's box.
    """

    units: Tensor
    truth: Tensor
    overlaps: Tensor
    maps: Tensor
    near: Tensor
    moves: Tensor

    def values(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def features_of(
    model: RCNN, task: Task, data: Dataset, most: int, seed: int = 0, told: Callable[[float], object] = lambda _: None
) -> Features:
    """Of all training pictures, with at most ``most`` regions of each, drawn by ``seed``."""
    examined = task.examine(model, data.train, data)
    examples = examined.examples
    classes = len(examples.classes)  # type: ignore[attr-defined]
    model.eval()
    rows: list[Features] = []
    feed = Feed(examples, Order(len(examples), 1, shuffle=False), examined.stages)
    for place, batch in enumerate(feed):
        pictures, _, rois = model_inputs(examined.inputs, batch.inputs, torch.float32)
        ((boxes, labels, difficult),) = batch.targets.of_each()
        boxes, labels = boxes[~difficult], labels[~difficult]
        chance = seeding.generator(seed, "windows", place)
        drawn = rois[torch.randperm(len(rois), generator=chance)[:most], 1:]
        with torch.inference_mode():
            rows.append(_of_picture(model, pictures, torch.cat((boxes, drawn)), boxes, labels, classes))
        told((place + 1) / len(examples))
    return Features(**{name: torch.cat([row.values()[name] for row in rows]) for name in rows[0].values()})


def _of_picture(
    model: RCNN, pictures: Tensor, regions: Tensor, boxes: Tensor, labels: Tensor, classes: int
) -> Features:
    rois = torch.nn.functional.pad(regions, (1, 0))
    maps, units = (torch.cat(parts) for parts in zip(*model.parts(pictures, rois), strict=True))
    overlaps = torch.zeros(len(regions), classes)
    near = torch.full((len(regions),), -1)
    moves = torch.zeros(len(regions), 4)
    if len(boxes):
        iou = box_iou(regions, boxes)
        for label in range(classes):
            own = labels == label
            if own.any():
                overlaps[:, label] = iou[:, own].amax(1)
        best, which = iou.max(1)
        near = torch.where(best >= NEAR, labels[which], -1)
        moves = encode(regions, boxes[which])
    truth = torch.cat((labels, torch.full((len(regions) - len(boxes),), -1)))
    some = near >= 0
    return Features(units, truth, overlaps, maps[some], near[some], moves[some])


def fit_machines(features: Features, seed: int = 0) -> tuple[Tensor, Tensor, list[dict[str, int]]]:
    """One linear support vector machine a class: weights (classes, hidden), biases (classes,), and of each how many
    negatives it was shown in how many rounds.

    Positive are a class's true boxes, negative all regions that overlap its things by less than ``NEGATIVE``, of which
    the hard ones are looked for: those of a margin above −1 are added, the easy ones dropped, until there are no new
    ones. Raises ArgumentError where a class has no true box or no negative.
    """
    from sklearn.svm import LinearSVC

    units = features.units.numpy().astype(numpy.float64)
    scale = _LENGTH / max(float(numpy.linalg.norm(units, axis=1).mean()), 1e-12)
    units = units * scale
    weights, biases, told = [], [], []
    for label in range(features.overlaps.shape[1]):
        positive = (features.truth == label).numpy()
        candidates = numpy.flatnonzero((features.overlaps[:, label] < NEGATIVE).numpy() & ~positive)
        if not positive.any() or not len(candidates):
            raise ArgumentError("features", f"class {label} without true boxes or background", "some of both")
        chance = numpy.random.default_rng(seeding.derive(seed, "negatives", label))
        chosen = chance.permutation(candidates)[:FIRST]
        for turn in range(ROUNDS):  # noqa: B007 (told below)
            shown = numpy.concatenate((units[positive], units[chosen]))
            sides = numpy.concatenate((numpy.ones(positive.sum()), -numpy.ones(len(chosen))))
            machine = LinearSVC(C=C, class_weight={1.0: 2.0, -1.0: 1.0}, intercept_scaling=10, random_state=0)
            machine.fit(shown, sides)
            margins = machine.decision_function(units[candidates])
            hard = candidates[margins > HARD]
            kept = chosen[machine.decision_function(units[chosen]) > EASY]
            more = numpy.union1d(kept, hard)
            if not len(numpy.setdiff1d(hard, chosen)):
                break
            chosen = more
        weights.append(machine.coef_[0] * scale)
        biases.append(machine.intercept_[0])
        told.append({"positives": int(positive.sum()), "negatives": len(chosen), "rounds": turn + 1})
    return torch.from_numpy(numpy.stack(weights)).float(), torch.from_numpy(numpy.array(biases)).float(), told


def fit_boxes(features: Features, strength: float = LAMBDA) -> tuple[Tensor, Tensor]:
    """Ridge regression from the last pooling's maps to the four differences (equation 36), a class at a time: weights
    (classes, 4, m), biases (classes, 4). A class without a region near one of its things is not moved."""
    classes, size = features.overlaps.shape[1], features.maps.shape[1]
    weights, biases = torch.zeros(classes, 4, size), torch.zeros(classes, 4)
    for label in range(classes):
        own = features.near == label
        if not own.any():
            continue
        phi, t = features.maps[own].double(), features.moves[own].double()
        middle, mean = phi.mean(0), t.mean(0)  # the constant is not penalised
        centred = phi - middle
        gram = centred.T @ centred + strength * torch.eye(size, dtype=torch.float64)
        w = torch.linalg.solve(gram, centred.T @ (t - mean))
        weights[label], biases[label] = w.T.float(), (mean - middle @ w).float()
    return weights, biases


def with_machines(model: RCNN, other: RCNN, weights: Tensor, biases: Tensor) -> RCNN:
    """``other``, built with ``svm=True``, with ``model``'s network and these machines for its scores."""
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.cls_score.weight.zero_()
        other.cls_score.bias.zero_()
        other.cls_score.weight[1:], other.cls_score.bias[1:] = weights, biases
    return other


def with_boxes(model: RCNN, weights: Tensor, biases: Tensor) -> RCNN:
    """``model`` itself, its regions moved by these regressions from now on."""
    with torch.no_grad():
        model.bbox_pred.weight[4:] = weights.flatten(0, 1)
        model.bbox_pred.bias[4:] = biases.flatten()
    return model
