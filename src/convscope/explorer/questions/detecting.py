"""Detection explained: the boxes of the picture shown, and a box's chain from its score back to the features."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.explorer.arithmetic.regions import part_read
from convscope.explorer.detector import Detector, Seen
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation
from convscope.layers.box_coding import MOST, decode
from convscope.layers.boxes import box_iou, clip_boxes_to_image
from convscope.layers.regions import RoIAlign
from convscope.models.rcnn import RCNN
from convscope.tasks.detection.answers import Found, best_of, candidates

_SUPPRESSED = 200  # that are told, the best first
_TERMS = 5


@operation(job=True)
def boxes(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The boxes found with these thresholds, best first; those that NMS left out, by whom and at which overlap; and the
    chain of the box that is chosen."""
    detector = _detector(session)
    with session.lock:
        seen = detector.look(session.snapshot.question.x, session.picture)
        return Reply(finite(_told(session, detector, seen, args)))


@operation(job=True)
def choose_box(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Let every layer of the page be of this region, and its class the one that δ is of."""
    detector = _detector(session)
    with session.lock:
        seen = detector.look(session.snapshot.question.x, session.picture)
        detector.choose(args.integer("region"), args.integer("label"))
        session.target_chosen = False  # it is the class of the box
        session.snapshot = session.make_snapshot(session.picture)
        return Reply(finite(_told(session, detector, seen, args)))


@operation()
def box_field(session: Session, args: Arguments, payload: bytes) -> Reply:
    """What the chosen region is computed from: the part of the last maps that is pooled, and what this depends on, on
    every map before it and on the picture."""
    pooled = session.snapshot.layer(_pooling(_detector(session))["layer"])
    before, part = pooled.sources[0], part_read(pooled)
    return Reply(finite({"direction": "backward", "layer": before, **session.reach().of_part(before, part)}))


def _detector(session: Session) -> Detector:
    if session.detector is None:
        raise ArgumentError("model", session.name, "a detector: R-CNN, Fast R-CNN or Faster R-CNN")
    return session.detector


def _told(session: Session, detector: Detector, seen: Seen, args: Arguments) -> dict[str, Any]:
    limits = dataclasses.replace(
        detector.settings,
        score=args.number("score", detector.settings.score, 0.0, 1.0),
        overlap=args.number("overlap", detector.settings.overlap, 0.0, 1.0),
    )
    outputs, deviations = seen.outputs, detector.model.deviations
    given = candidates(outputs.rois[:, 1:], detector.probabilities(seen), outputs.differences, limits.score, deviations)
    found = best_of(given, seen.size, limits)
    rows = [_row(found, place) for place in range(len(found.labels))]
    return {
        "boxes": rows,
        "suppressed": suppressed(given, found, seen.size, limits.overlap),
        "regions": len(outputs.rois),
        "size": list(seen.size),
        "limits": {"score": limits.score, "overlap": limits.overlap},
        "chosen": chain(session, detector, seen, found),
        "version": session.snapshot.version,
    }


def suppressed(given: Found, found: Found, size: tuple[int, int], overlap: float) -> list[dict[str, Any]]:
    """Of the boxes that are not among those found the best, each with the box that took its place, if one did."""
    kept = set(zip(found.regions.tolist(), found.labels.tolist(), strict=True))
    order = given.scores.argsort(descending=True).tolist()
    clipped = clip_boxes_to_image(given.boxes, size)
    told: list[dict[str, Any]] = []
    for place in order:
        if (int(given.regions[place]), int(given.labels[place])) in kept:
            continue
        better = torch.nonzero((found.labels == given.labels[place]) & (found.scores >= given.scores[place])).flatten()
        overlaps = box_iou(clipped[place : place + 1], found.boxes[better])[0]
        row = {
            "box": clipped[place].tolist(), "label": int(given.labels[place]), "score": float(given.scores[place]),
            "region": int(given.regions[place]), "by": None, "overlap": None,
        }  # fmt: skip
        if len(better) and float(overlaps.max()) > overlap:
            row |= {"by": int(better[int(overlaps.argmax())]), "overlap": float(overlaps.max())}
        told.append(row)
        if len(told) == _SUPPRESSED:
            break
    return told


def _row(found: Found, place: int) -> dict[str, Any]:
    return {
        "box": found.boxes[place].tolist(),
        "label": int(found.labels[place]),
        "score": float(found.scores[place]),
        "region": int(found.regions[place]),
    }


def chain(session: Session, detector: Detector, seen: Seen, found: Found) -> dict[str, Any]:
    """The chosen box, step by step: region, bins, class scores, differences and their sums, the box, NMS."""
    region, label = detector.chosen
    outputs = seen.outputs
    roi, d = outputs.rois[region, 1:], outputs.differences[region, label + 1]
    made = decode(roi[None], d[None], detector.model.deviations)
    mine = (found.regions == region) & (found.labels == label)
    return {
        "region": region,
        "label": label,
        "roi": roi.tolist(),
        "anchor": _anchor(detector, seen, region),
        "pooling": _pooling(detector),
        "scores": outputs.scores[region].tolist(),
        "probabilities": detector.probabilities(seen)[region].tolist(),
        "regression": _regression(session, detector, label, d),
        "decoding": decoding(roi, d, detector.model.deviations),
        "decoded": made[0].tolist(),
        "clipped": clip_boxes_to_image(made, seen.size)[0].tolist(),
        "kept": bool(mine.any()),
    }


def decoding(roi: Tensor, d: Tensor, deviations: tuple[float, ...]) -> list[dict[str, float]]:
    """Equations (32) to (35) with their numbers: x, y, w, h of the region, σ·d, and what comes out."""
    x1, y1, x2, y2 = (float(each) for each in roi.double())
    width, height = x2 - x1, y2 - y1
    own = (x1 + width / 2, y1 + height / 2, width, height)
    rows = []
    for place, (value, difference, sigma) in enumerate(zip(own, d.double().tolist(), deviations, strict=True)):
        step = sigma * difference
        if place < 2:
            result = own[2 + place] * step + value
        else:
            result = value * float(torch.tensor(min(step, MOST), dtype=torch.float64).exp())
        rows.append({"region": value, "difference": difference, "deviation": sigma, "result": result})
    return rows


def _anchor(detector: Detector, seen: Seen, region: int) -> dict[str, Any] | None:
    """The anchor that became the region: of those whose box it is the one with the highest logit."""
    outputs = seen.outputs
    if outputs.anchors is None or outputs.objectness is None or outputs.anchor_differences is None:
        return None
    moved = clip_boxes_to_image(decode(outputs.anchors, outputs.anchor_differences[0]), seen.size)
    same = torch.nonzero((moved - outputs.rois[region, 1:]).abs().amax(1) < 1e-3).flatten()
    if not len(same):  # the picture as a whole, where no anchor gave a region
        return None
    place = int(same[int(outputs.objectness[0, same].argmax())])
    logit = outputs.objectness[0, place]
    return {
        "place": place,
        "box": outputs.anchors[place].tolist(),
        "logit": float(logit),
        "probability": float(torch.sigmoid(logit.double())),
        "decoding": decoding(outputs.anchors[place], outputs.anchor_differences[0, place], (1.0, 1.0, 1.0, 1.0)),
    }


def _pooling(detector: Detector) -> dict[str, Any]:
    if isinstance(detector.model, RCNN):
        return {"kind": "warp", "bins": [detector.model.side] * 2, "layer": "roi_align", "scale": 1.0}
    pool: Any = detector.model.roi_heads.pool
    kind = "align" if isinstance(pool, RoIAlign) else "max"
    return {"kind": kind, "bins": list(pool.output_size), "layer": "pool", "scale": float(pool.spatial_scale)}


def _regression(session: Session, detector: Detector, label: int, d: Tensor) -> list[dict[str, Any]]:
    """Each of the four differences as the sum that it is: bias, the largest products, the rest of them."""
    model = detector.model
    last = model.bbox_pred if isinstance(model, RCNN) else model.roi_heads.box_predictor.bbox_pred
    linear: Any = last
    source = "flatten" if isinstance(model, RCNN) else "box_head.drop7"
    x = session.snapshot.layer(source).y[0].detach().double().flatten()
    found = []
    for place in range(4):
        row = 4 * (label + 1) + place
        weight, bias = linear.weight[row].detach().double(), float(linear.bias[row].detach())
        products = weight * x
        largest = products.abs().argsort(descending=True)[:_TERMS].tolist()
        terms = [{"unit": each, "w": float(weight[each]), "x": float(x[each])} for each in largest]
        rest = float(products.sum() - products[largest].sum())
        found.append(
            {"terms": terms, "more": len(products) - len(terms), "rest": rest, "bias": bias, "value": float(d[place])}
        )
    return found
