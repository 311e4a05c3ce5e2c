"""What a detector minimises: class and place of its regions, and of its anchors where it proposes itself.

A picture's loss is (Girshick, Fast R-CNN, equations 37 to 39; Ren et al., Faster R-CNN, equation 1)

    (1/r) Σ −ln p_u  +  (1/r) Σ [u ≥ 1] smooth(d_u − v)          over its r regions
  + (1/m) Σ −ln p*   +  (1/m) Σ [u ≥ 1] smooth_{1/9}(d − v)      over m of its anchors

and J is the mean over the pictures. Of the anchors 256 are drawn in training, at most half of them on things; in
evaluation the sums are over all of them, weighed as that draw does in the mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.data.kinds.boxes import BoxTargets
from convscope.errors import ArgumentError
from convscope.layers.box_coding import DEVIATIONS, encode
from convscope.layers.box_matching import draw, match_anchors, match_regions
from convscope.models.fast_rcnn import Regions
from convscope.rules.box_loss import smooth_l1, two_tasks
from convscope.training.task import Objective, Scalar

ANCHORS = 256  # of a picture that one step looks at
BETA = 1 / 9  # of the anchors' smooth L1

OF_REGIONS = ("class", "box")
OF_ANCHORS = ("rpn_class", "rpn_box")


@dataclasses.dataclass(frozen=True)
class Assigned:
    """What regions or anchors should say: ``labels`` int64, ``targets`` (…, 4) differences, ``weights`` in J."""

    labels: Tensor
    targets: Tensor
    weights: Tensor


class DetectionObjective(Objective):
    """J and its parts by name; ``parts`` are those minimised, all where left out."""

    def __init__(self, model: nn.Module, parts: Sequence[str] | None = None) -> None:
        self.model = model
        known = (*OF_ANCHORS, *OF_REGIONS) if getattr(model, "proposes", False) else OF_REGIONS
        parts = parts or getattr(model, "learned", None)
        self.counts = tuple(name for name in known if parts is None or name in parts)
        self.deviations = getattr(model, "deviations", DEVIATIONS)
        self.margins = bool(getattr(model, "margins", False))  # scores are a support vector machine's
        self._last: tuple[Regions, dict[str, Tensor]] | None = None

    def value(self, outputs: Regions, targets: BoxTargets) -> Tensor:
        parts = self.parts(outputs, targets)
        self._last = outputs, {name: part.detach() for name, part in parts.items()}
        return torch.stack(list(parts.values())).sum()

    def parts(self, outputs: Regions, targets: BoxTargets) -> dict[str, Tensor]:
        """Each part of J by its name, made of torch operations."""
        found: dict[str, Tensor] = {}
        if set(OF_ANCHORS) & set(self.counts):
            logits, differences = outputs.objectness, outputs.anchor_differences
            assert logits is not None
            assert differences is not None
            given = self.of_anchors(outputs, targets)
            on = given.labels > 0
            by_class = F.binary_cross_entropy_with_logits(logits, on.to(logits.dtype), reduction="none")
            by_box = F.smooth_l1_loss(differences, given.targets, beta=BETA, reduction="none").sum(2)
            found["rpn_class"] = (given.weights * by_class).sum()
            found["rpn_box"] = (given.weights * on * by_box).sum()
        if set(OF_REGIONS) & set(self.counts):
            given = self.of_regions(outputs, targets)
            rows = torch.arange(len(given.labels), device=given.labels.device)
            labels = given.labels.clamp(min=0)
            by_class = F.cross_entropy(outputs.scores, labels, reduction="none")
            moves = outputs.differences[rows, labels]
            by_box = F.smooth_l1_loss(moves, given.targets, reduction="none").sum(1)
            found["class"] = (given.weights * by_class).sum()
            found["box"] = (given.weights * (labels > 0) * by_box).sum()
        return {name: found[name] for name in self.counts}

    def value_and_delta(self, outputs: Regions, targets: BoxTargets) -> tuple[Tensor, Regions]:
        delta = outputs._replace(
            **{name: torch.zeros_like(each) for name, each in outputs._asdict().items() if each is not None}
        )
        value = outputs.scores.new_zeros(())
        if "class" in self.counts:
            given = self.of_regions(outputs, targets)
            labels, balance = given.labels.clamp(min=0), float("box" in self.counts)
            by_class, by_box, *deltas = two_tasks(
                outputs.scores, outputs.differences, labels, given.targets, given.weights, balance
            )
            value = value + by_class + by_box
            delta = delta._replace(scores=deltas[0], differences=deltas[1])
        if set(OF_ANCHORS) <= set(self.counts):
            added, logits, differences = self._anchors_delta(outputs, targets)
            delta = delta._replace(objectness=logits, anchor_differences=differences)
            value = value + added
        return value, delta

    def _anchors_delta(self, outputs: Regions, targets: BoxTargets) -> tuple[Tensor, Tensor, Tensor]:
        """∂/∂z (softplus(z) − yz) = σ(z) − y, and smooth L1's slope."""
        logits, differences = outputs.objectness, outputs.anchor_differences
        assert logits is not None
        assert differences is not None
        given = self.of_anchors(outputs, targets)
        y = (given.labels > 0).to(logits.dtype)
        by_class = F.softplus(logits) - y * logits
        by_box, slope = smooth_l1(differences, given.targets, BETA)
        some = given.weights * y
        value = (given.weights * by_class).sum() + (some * by_box.sum(2)).sum()
        return value, given.weights * (torch.sigmoid(logits) - y), some[..., None] * slope

    def count(self, outputs: Regions, targets: BoxTargets) -> Sequence[Scalar]:
        """Each part's sum over the pictures; those of the last ``value``, where it was of these outputs, since another
        draw of anchors would give others."""
        last = self._last
        parts = last[1] if last is not None and last[0] is outputs else self.parts(outputs, targets)
        self._last = None
        return [part.detach() * len(targets.counts) for part in parts.values()]

    def of_regions(self, outputs: Regions, targets: BoxTargets) -> Assigned:
        """What each region (r,) should say."""
        rois = outputs.rois.detach()
        labels = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
        wanted = torch.zeros_like(rois[:, 1:])
        weights = torch.zeros_like(rois[:, 0])
        pictures = len(targets.counts)
        for picture, (boxes, classes, difficult) in enumerate(targets.of_each()):
            own = torch.nonzero(rois[:, 0] == picture).flatten()
            regions, boxes = rois[own, 1:], boxes.to(rois)
            found, which, _ = match_regions(regions, boxes, classes, difficult)
            labels[own] = found
            known = found >= 0
            weights[own] = known.to(rois.dtype) / (known.sum().clamp(min=1) * pictures)
            some = found > 0
            wanted[own[some]] = encode(regions[some], boxes[which[some]], self.deviations)
        return Assigned(labels, wanted, weights)

    def of_anchors(self, outputs: Regions, targets: BoxTargets) -> Assigned:
        """What each anchor of each picture (n, a) should say; those whose centre is beyond the picture nothing."""
        if outputs.anchors is None:
            raise ArgumentError("outputs", "regions alone", "anchors as well, of a network that proposes by itself")
        anchors, pictures = outputs.anchors.detach(), len(targets.counts)
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        labels, wanted, weights = [], [], []
        each = zip(targets.of_each(), outputs.sizes.detach(), strict=True)
        for picture, ((boxes, _, difficult), size) in enumerate(each):
            boxes = boxes.to(anchors)
            found, which = match_anchors(anchors, boxes, difficult)
            inside = (centres < size.flip(0).to(anchors)).all(1)
            some = inside & (found == 1)
            own = torch.zeros_like(anchors)
            own[some] = encode(anchors[some], boxes[which[some]])
            labels.append(some.to(torch.int64))
            wanted.append(own)
            chance = targets.chance(picture, "anchors") if self.model.training else None
            weights.append(self._looked_at(some, inside & (found == 0), anchors, chance) / pictures)
        return Assigned(torch.stack(labels), torch.stack(wanted), torch.stack(weights))

    def _looked_at(self, on: Tensor, off: Tensor, like: Tensor, chance: torch.Generator | None) -> Tensor:
        """The weight of each anchor of a picture, their sum being 1: of those drawn alike, or as that draw in the
        mean."""
        weights = like.new_zeros(len(on))
        if self.model.training:
            drawn = draw(on, off, ANCHORS, 0.5, chance)
            weights[drawn] = 1 / max(len(drawn), 1)
            return weights
        many_on, many_off = int(on.sum()), int(off.sum())
        some = min(many_on, ANCHORS // 2)
        others = min(many_off, ANCHORS - some)
        whole = max(some + others, 1)
        weights[on] = some / (max(many_on, 1) * whole)
        weights[off] = others / (max(many_off, 1) * whole)
        return weights
