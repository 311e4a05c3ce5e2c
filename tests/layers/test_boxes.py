"""Boxes against published numbers and plain loops: overlaps, forms, suppression, in order, with ties and classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.layers.test_regions import PUBLISHED, published
from tests.oracles import worst
from torch import Tensor, nn

import convscope
from convscope import ops
from convscope.errors import ArgumentError
from convscope.rules import tape


def some_boxes(n: int, seed: int = 0, size: float = 100.0, dtype: torch.dtype = torch.float32) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    corner, sides = (torch.rand(n, 2, generator=stream, dtype=dtype) for _ in range(2))
    return torch.cat((corner * size, corner * size + sides * size / 4), 1)


def some_scores(n: int, seed: int = 1, levels: int | None = None) -> Tensor:
    scores = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    return scores if levels is None else (scores * levels).round() / levels


def iou(a: list[float], b: list[float]) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0.0) * max(tall, 0.0)
    together = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / together if together else math.nan


def suppressed_by_loops(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None) -> list[int]:
    rows, kept = boxes.double().tolist(), list[int]()
    for i in sorted(range(len(rows)), key=lambda i: -float(scores[i])):
        rivals = [j for j in kept if groups is None or groups[i] == groups[j]]
        if not any(iou(rows[i], rows[j]) > threshold for j in rivals):
            kept.append(i)
    return kept


def test_the_published_numbers() -> None:
    boxes, scores, classes = published("boxes"), published("scores"), torch.tensor(PUBLISHED["classes"])
    assert ops.nms(boxes, scores, 0.5).tolist() == PUBLISHED["nms_05"]
    assert ops.nms(boxes, scores, 0.3).tolist() == PUBLISHED["nms_03"]
    assert ops.batched_nms(boxes, scores, classes, 0.5).tolist() == PUBLISHED["batched_nms_05"]
    assert worst(ops.box_iou(boxes[:8], boxes[:8]), published("iou_first8")) < 1e-12
    assert ops.nms(boxes.float(), scores.float(), 0.5).tolist() == PUBLISHED["nms_05"]


@pytest.mark.parametrize(
    ("n", "threshold"), [(0, 0.5), (1, 0.5), (15, 0.3), (16, 0.0), (17, 1.0), (33, 0.1), (130, 0.7), (1100, 0.01)]
)
def test_suppression_by_loops(n: int, threshold: float) -> None:
    boxes, scores = some_boxes(n, dtype=torch.float64), some_scores(n)
    kept = ops.nms(boxes, scores, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == suppressed_by_loops(boxes, scores, threshold)
    groups = torch.arange(n) * 7 % 3 - 1
    assert ops.batched_nms(boxes, scores, groups, threshold).tolist() == suppressed_by_loops(
        boxes, scores, threshold, groups
    )


def test_of_equal_scores_the_first_stays() -> None:
    boxes, scores = some_boxes(600, dtype=torch.float64), some_scores(600, levels=4)
    assert ops.nms(boxes, scores, 0.3).tolist() == suppressed_by_loops(boxes, scores, 0.3)
    same = torch.tensor([[0.0, 0, 4, 4]] * 3)
    assert ops.nms(same, torch.ones(3), 0.5).tolist() == [0]
    assert ops.nms(same, torch.ones(3), 1.0).tolist() == [0, 1, 2], "no overlap is above 1"


def test_a_threshold_that_is_met_keeps() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.4999).tolist() == [0]


def test_empty_and_swapped_boxes_are_kept() -> None:
    """Their overlap is 0 or no number, as torchvision's."""
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [5, 5, 2, 2], [0, 0, 9, 9]])
    assert ops.nms(boxes, torch.tensor([0.4, 0.3, 0.2, 0.1]), 0.5).tolist() == [0, 1, 2, 3]


def test_groups_do_not_meet_whatever_their_coordinates() -> None:
    """Moving groups apart by the largest coordinate, as is often done, fails where some are below 0."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [-101, -101, -1, -1]])
    assert ops.batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16])
def test_other_kinds_of_numbers(dtype: torch.dtype) -> None:
    boxes = (some_boxes(50) * 4).round().to(dtype)
    assert ops.nms(boxes, some_scores(50), 0.4).tolist() == suppressed_by_loops(boxes, some_scores(50), 0.4)
    wanted = torch.tensor([[iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()])
    found = ops.box_iou(boxes, boxes)
    assert found.is_floating_point()
    assert worst(found.float(), wanted) < 1e-2


def test_overlaps_by_loops_and_by_other_forms() -> None:
    boxes, others = some_boxes(17, dtype=torch.float64), some_boxes(9, 3, dtype=torch.float64)
    wanted = torch.tensor([[iou(a, b) for b in others.tolist()] for a in boxes.tolist()], dtype=torch.float64)
    assert worst(ops.box_iou(boxes, others), wanted) < 1e-12
    assert wanted.max() > 0.1
    for fmt in ("xywh", "cxcywh"):
        one, other = (ops.box_convert(each, "xyxy", fmt) for each in (boxes, others))
        assert worst(ops.box_iou(one, other, fmt=fmt), wanted) < 1e-9
    stacked = ops.box_iou(boxes.expand(2, -1, -1), others.expand(2, -1, -1))
    assert torch.equal(stacked[1], ops.box_iou(boxes, others))
    assert torch.allclose(ops.box_iou(boxes, boxes).diagonal(), torch.ones(17, dtype=torch.float64))
    assert ops.box_area(torch.tensor([[1.0, 2, 4, 7]])).item() == 15


def test_forms_by_hand_and_there_and_back() -> None:
    boxes = torch.tensor([[1.0, 2, 5, 10]])
    assert ops.box_convert(boxes, "xyxy", "xywh").tolist() == [[1, 2, 4, 8]]
    assert ops.box_convert(boxes, "xyxy", "cxcywh").tolist() == [[3, 6, 4, 8]]
    assert ops.box_convert(boxes, "xyxy", "xyxy") is not boxes
    for one in ("xyxy", "xywh", "cxcywh"):
        for other in ("xyxy", "xywh", "cxcywh"):
            assert torch.equal(ops.box_convert(ops.box_convert(boxes, one, other), other, one), boxes)


def test_clipping_and_removing() -> None:
    boxes = torch.tensor([[-3.0, 2, 30, 40], [1, 1, 2, 9], [50, 60, 70, 80]])
    assert ops.clip_boxes_to_image(boxes, (20, 25)).tolist() == [[0, 2, 25, 20], [1, 1, 2, 9], [25, 20, 25, 20]]
    assert ops.remove_small_boxes(ops.clip_boxes_to_image(boxes, (20, 25)), 1).tolist() == [0, 1]
    assert ops.remove_small_boxes(boxes, 8.0).tolist() == [0, 2]
    assert ops.remove_small_boxes(torch.zeros(0, 4), 1).tolist() == []


def test_a_model_that_suppresses_is_traced() -> None:
    class Best(nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
            return boxes[ops.nms(boxes, scores, 0.3)] * 2

    boxes, scores = some_boxes(30), some_scores(30)
    ran = tape.forward(Best(), boxes, scores)
    assert torch.equal(ran.output, Best()(boxes, scores))
    back = ran.backward(torch.ones_like(ran.output))
    leaf = boxes.clone().requires_grad_()
    Best()(leaf, scores).sum().backward()
    assert leaf.grad is not None
    assert torch.equal(back.inputs[0], leaf.grad)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ops.nms(torch.zeros(3, 5), torch.zeros(3), 0.5), r"boxes: got \(3, 5\), wanted \(n, 4\)"),
        (lambda: ops.nms(torch.zeros(3, 4), torch.zeros(2), 0.5), r"scores: got \(2,\), wanted one for each box"),
        (lambda: ops.nms(torch.zeros(3, 4), torch.zeros(3), math.nan), "iou_threshold: got nan"),
        (lambda: ops.batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(1), 0.5), r"idxs: got \(1,\)"),
        (lambda: ops.box_iou(torch.zeros(4), torch.zeros(1, 4)), r"boxes1: got \(4,\)"),
        (lambda: ops.box_iou(torch.zeros(1, 4), torch.zeros(1, 3)), r"boxes2: got \(1, 3\)"),
        (lambda: ops.box_convert(torch.zeros(1, 4), "xyxy", "yxyx"), "out_fmt: got 'yxyx', wanted one of xyxy"),
        (lambda: ops.box_convert(torch.zeros(1, 4), "corners", "xyxy"), "in_fmt: got 'corners'"),
        (lambda: ops.remove_small_boxes(torch.zeros(4), 1), r"boxes: got \(4,\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(call: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        call()


def test_the_names_are_public() -> None:
    assert convscope.ops is ops
    assert all(callable(getattr(ops, name)) for name in ops.__all__)
