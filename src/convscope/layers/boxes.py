"""Boxes (x1, y1, x2, y2): their overlaps and forms, and which of many to keep; torchvision's names and results."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from convscope.errors import ArgumentError
from convscope.layers.fast_regions import fast_way

FORMATS = ("xyxy", "xywh", "cxcywh")
#: Boxes that are compared with all others at a time: 512 × 10,000 overlaps are 20 MiB in float32.
_BLOCK = 512


def _check_corners(name: str, boxes: Tensor, flat: bool = False) -> None:
    if not isinstance(boxes, Tensor) or boxes.ndim < 1 or boxes.shape[-1] != 4 or (flat and boxes.ndim != 2):
        got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise ArgumentError(name, got, "(n, 4)" if flat else "(…, 4), four numbers a box")


def _summable(t: Tensor) -> Tensor:
    """In a type in which products of sides do not overflow: halves as float32, whole numbers as int64."""
    if t.is_floating_point():
        return t if t.dtype in (torch.float32, torch.float64) else t.float()
    return t if t.dtype in (torch.int32, torch.int64) else t.int()


def box_area(boxes: Tensor) -> Tensor:
    """(x2 − x1)·(y2 − y1) of boxes (…, 4): (…)."""
    _check_corners("boxes", boxes)
    boxes = _summable(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Intersection over union of every pair, (…, n, 4) and (…, m, 4) → (…, n, m).

    ``fmt`` as in ``box_convert``. Two boxes without any area have none: the result is not a number. Raises
    ArgumentError for other shapes and forms.
    """
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        _check_corners(name, boxes)
        if boxes.ndim < 2:
            raise ArgumentError(name, tuple(boxes.shape), "(…, n, 4)")
    boxes1, boxes2 = (box_convert(boxes, fmt, "xyxy") for boxes in (boxes1, boxes2))
    low = torch.maximum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])  # (…, n, m, 2)
    high = torch.minimum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    sides = _summable(high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / (box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - shared)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes (…, 4) in another form: "xyxy" two corners, "xywh" a corner and sides, "cxcywh" the middle and sides.

    Always a tensor of its own. Raises ArgumentError for other forms.
    """
    _check_corners("boxes", boxes)
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        if fmt not in FORMATS:
            raise ArgumentError(name, fmt, f"one of {', '.join(FORMATS)}")
    if in_fmt == out_fmt:
        return boxes.clone()
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xywh":
        a, b, c, d = a, b, a + c, b + d
    elif in_fmt == "cxcywh":
        a, b, c, d = a - 0.5 * c, b - 0.5 * d, a + 0.5 * c, b + 0.5 * d
    if out_fmt == "xywh":
        a, b, c, d = a, b, c - a, d - b
    elif out_fmt == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return torch.stack((a, b, c, d), -1)


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (…, 4) with every corner moved into a picture of ``size`` (height, width)."""
    _check_corners("boxes", boxes)
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), -1).reshape(boxes.shape)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices of the boxes (n, 4) both of whose sides are at least ``min_size``."""
    _check_corners("boxes", boxes, flat=True)
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return torch.nonzero((wide >= min_size) & (tall >= min_size)).flatten()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes (n, 4) to keep, by falling score: who overlaps none kept before by more than ``iou_threshold``.

    Overlap is intersection over union; of equal scores the first comes first. Returns int64 indices. Raises
    ArgumentError for shapes that do not fit and a threshold that is no number.
    """
    given = (boxes, scores)
    if has_torch_function(given):
        found: Tensor = handle_torch_function(nms, given, boxes, scores, iou_threshold)
        return found
    return _suppress(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """``nms`` within groups of equal ``idxs`` (n,), classes or pictures; the answer is by falling score."""
    given = (boxes, scores, idxs)
    if has_torch_function(given):
        found: Tensor = handle_torch_function(batched_nms, given, boxes, scores, idxs, iou_threshold)
        return found
    if not isinstance(idxs, Tensor) or idxs.shape != scores.shape:
        got = tuple(idxs.shape) if isinstance(idxs, Tensor) else type(idxs).__name__
        raise ArgumentError("idxs", got, f"one for each score, {tuple(scores.shape)}")
    return _suppress(boxes, scores, idxs, iou_threshold)


@torch.no_grad()
def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    _check_corners("boxes", boxes, flat=True)
    if not isinstance(scores, Tensor) or scores.shape != boxes.shape[:1]:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ArgumentError("scores", got, f"one for each box, ({len(boxes)},)")
    if math.isnan(threshold):
        raise ArgumentError("iou_threshold", threshold, "a number")
    order = scores.sort(stable=True, descending=True).indices
    corners = boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.double()
    rest, groups = corners[order], None if groups is None else groups[order]
    fast = fast_way("suppress", rest)
    if fast is not None:
        return order[fast(rest, groups, threshold)]
    kept = []
    while len(rest):
        block, others = rest[:_BLOCK], rest[_BLOCK:]
        own = None if groups is None else groups[:_BLOCK]
        stays = _first_of_each(_overlapping(block, block, own, own, threshold))
        kept.append(order[:_BLOCK][stays])
        left = None if groups is None else groups[_BLOCK:]
        taken = _overlapping(block[stays], others, None if own is None else own[stays], left, threshold).any(0)
        rest, order = others[~taken], order[_BLOCK:][~taken]
        groups = None if left is None else left[~taken]
    return torch.cat(kept) if kept else order


def _overlapping(one: Tensor, other: Tensor, group: Tensor | None, theirs: Tensor | None, threshold: float) -> Tensor:
    over = box_iou(one, other).double() > threshold  # in float64, as torchvision compares
    return over if group is None or theirs is None else over & (group[:, None] == theirs)


def _first_of_each(over: Tensor) -> Tensor:
    """Which boxes of a block, already in order, overlap none of those that stay before them."""
    table = over.cpu().numpy()
    stays = torch.ones(len(over), dtype=torch.bool)
    alive = stays.numpy()
    for index in range(len(table)):
        if alive[index]:
            alive[index + 1 :] &= ~table[index, index + 1 :]
    return stays.to(over.device)
