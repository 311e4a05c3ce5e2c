"""Regions of interest against published numbers, loops and differences, in traces and files; bad boxes by name."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles import Array, check_model, check_rule, well_apart, worst
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from convscope import load, ops, save, trace
from convscope.errors import ArgumentError
from convscope.layers import RoIAlign, RoIPool
from convscope.models import portable
from convscope.rules import regions, tape

#: Computed with torchvision 0.26 in float64.
PUBLISHED = json.loads((Path(__file__).parent / "detection_ops.json").read_text(encoding="utf-8"))
#: On maps of 6 × 7 at a scale of 1/8: inside, whole, beyond two sides, outside, empty, corners swapped, at halves.
ODD = torch.tensor(
    [
        [0, 9, 8, 40, 30], [1, 0, 0, 56, 48], [1, -30, 20, 30, 90], [0, 100, 0, 200, 10], [0, 16, 16, 16, 16],
        [1, 40, 40, 8, 24], [0, 4, 4, 20, 12], [0, -400, -300, -100, -80], [1, 3, 1, 7, 700],
    ],
    dtype=torch.float64,
)  # fmt: skip


def published(name: str) -> Tensor:
    return torch.tensor(PUBLISHED[name], dtype=torch.float64)


def published_map() -> Tensor:
    shape = PUBLISHED["feature_map_shape"]
    return torch.sin(0.01 * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)


def half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def pooled_by_loops(x: Array, rois: Array, bins: tuple[int, int], scale: float) -> Array:
    """From the definition, one output at a time."""
    _, channels, height, width = x.shape
    y = np.zeros((len(rois), channels, *bins))
    for r, c, o, q in itertools.product(range(len(rois)), range(channels), range(bins[0]), range(bins[1])):
        x1, y1, x2, y2 = (half_away(corner * scale) for corner in rois[r, 1:])
        tall, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        rows = range(math.floor(o * tall / bins[0]), math.ceil((o + 1) * tall / bins[0]))
        columns = range(math.floor(q * wide / bins[1]), math.ceil((q + 1) * wide / bins[1]))
        seen = [
            x[int(rois[r, 0]), c, y1 + i, x1 + j]
            for i in rows
            for j in columns
            if 0 <= y1 + i < height and 0 <= x1 + j < width
        ]
        y[r, c, o, q] = max(seen, default=0.0)
    return y


def aligned_by_loops(x: Array, rois: Array, bins: tuple[int, int], scale: float, ratio: int, aligned: bool) -> Array:
    """From the definition: every sample a weighted sum of four places, every bin their mean."""
    _, channels, height, width = x.shape
    y = np.zeros((len(rois), channels, *bins))
    for r, o, q in itertools.product(range(len(rois)), range(bins[0]), range(bins[1])):
        x1, y1, x2, y2 = rois[r, 1:] * scale - (0.5 if aligned else 0.0)
        tall, wide = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        down = ratio if ratio > 0 else math.ceil(tall / bins[0])
        across = ratio if ratio > 0 else math.ceil(wide / bins[1])
        for t, u in itertools.product(range(down), range(across)):
            row = y1 + (o + (t + 0.5) / down) * tall / bins[0]
            column = x1 + (q + (u + 0.5) / across) * wide / bins[1]
            if not (-1 <= row <= height and -1 <= column <= width):
                continue
            row, column = min(max(row, 0.0), height - 1), min(max(column, 0.0), width - 1)
            for i, j in itertools.product(range(height), range(width)):
                weight = max(0.0, 1 - abs(row - i)) * max(0.0, 1 - abs(column - j))
                y[r, :, o, q] += weight * x[int(rois[r, 0]), :, i, j] / (down * across)
    return y


def test_pooling_gives_the_published_numbers() -> None:
    found = ops.roi_pool(published_map(), published("rois"), 3, 0.125)
    assert worst(found, published("roi_pool_3x3_scale_0125")) < 1e-12
    assert worst(found.float() * 1.00001, published("roi_pool_3x3_scale_0125")) > 1e-6


def test_align_gives_the_published_numbers() -> None:
    found = ops.roi_align(published_map(), published("rois"), (3, 3), 0.125, 2, True)
    assert worst(found, published("roi_align_3x3_scale_0125")) < 1e-12
    assert worst(ops.roi_align(published_map(), published("rois"), 3, 0.125, 2), found) > 1e-3, "aligned matters"


@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (5, 4), (9, 8)])
def test_pooling_by_loops(bins: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = well_apart(2, 3, 6, 7)
    wanted = torch.from_numpy(pooled_by_loops(x.numpy(), ODD.numpy(), bins, 0.125))
    assert torch.equal(ops.roi_pool(x, ODD, bins, 0.125), wanted)
    assert torch.equal(ops.roi_pool(x.float(), ODD.float(), bins, 0.125), wanted.float())
    assert torch.equal(RoIPool(bins, 0.125)(x, ODD), wanted)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("bins", "ratio"), [((1, 1), -1), ((2, 3), 0), ((2, 3), 2), ((5, 4), 1)])
def test_align_by_loops(bins: tuple[int, int], ratio: int, aligned: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    wanted = torch.from_numpy(aligned_by_loops(x.numpy(), ODD.numpy(), bins, 0.125, ratio, aligned))
    assert worst(ops.roi_align(x, ODD, bins, 0.125, ratio, aligned), wanted) < 1e-12
    assert worst(ops.roi_align(x.float(), ODD, bins, 0.125, ratio, aligned).double(), wanted) < 1e-5
    assert worst(RoIAlign(bins, 0.125, ratio, aligned)(x, ODD), wanted) < 1e-12


def test_a_region_far_larger_than_the_map() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    rois = torch.tensor([[0, -300.0, -200, 500, 400]], dtype=torch.float64)
    for bins in ((1, 2), (3, 3)):
        wanted = torch.from_numpy(aligned_by_loops(x.numpy(), rois.numpy(), bins, 1.0, -1, True))
        assert wanted.abs().max() > 0
        assert worst(ops.roi_align(x, rois, bins, aligned=True), wanted) < 1e-9
    huge = torch.tensor([[0, -3e8, -2e8, 5e8, 4e8]], dtype=torch.float64)
    assert ops.roi_align(x, huge, 2).abs().max() < 1e-6
    assert ops.roi_pool(x, huge, 1)[0, :, 0, 0].tolist() == x.amax((2, 3))[0].tolist()


def test_the_half_of_a_place_is_rounded_away_from_zero() -> None:
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    assert ops.roi_pool(x, torch.tensor([[0, 0.5, 0.5, 0.5, 0.5]]), 1).item() == 6
    assert ops.roi_pool(x, torch.tensor([[0, 2.5, 0.0, 2.5, 0.0]]), 1).item() == 3
    assert ops.roi_pool(x, torch.tensor([[0, 0.49999997, 0, 0.49999997, 0]]), 1).item() == 0


def test_boxes_may_be_a_list_for_each_picture() -> None:
    x = torch.randn(3, 2, 6, 7)
    lists = [ODD[ODD[:, 0] == picture, 1:].float() for picture in range(3)]  # none in the third
    rois = torch.cat([ODD[ODD[:, 0] == picture] for picture in range(3)]).float()
    assert torch.equal(ops.roi_pool(x, lists, 2, 0.125), ops.roi_pool(x, rois, 2, 0.125))
    assert torch.equal(ops.roi_align(x, lists, 2, 0.125), ops.roi_align(x, rois, 2, 0.125))
    assert torch.equal(ops.roi_pool(x, ODD, 2, 0.125)[3], torch.zeros(2, 2, 2)), "outside"


def test_no_boxes_at_all() -> None:
    x = torch.randn(1, 2, 6, 7, requires_grad=True)
    for boxes in (torch.zeros(0, 5), [torch.zeros(0, 4)], []):
        for y in (ops.roi_pool(x, boxes, (3, 2)), ops.roi_align(x, boxes, (3, 2))):
            assert y.shape == (0, 2, 3, 2)
            (gradient,) = torch.autograd.grad(y.sum(), x)
            assert not gradient.any()


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (5, 4)])
def test_the_rules_go_back_as_autograd_does(bins: tuple[int, int], aligned: bool) -> None:
    torch.manual_seed(0)
    x = well_apart(2, 3, 6, 7)

    class Bound:
        """A rule of given boxes, which have no δ."""

        def __init__(self, rule: Any) -> None:
            self.rule, self.needs = rule, rule.needs

        def forward(self, x: Tensor) -> Any:
            return self.rule.forward(x, ODD)

        def backward(self, saved: Any, delta: Tensor) -> Any:
            (delta_x, nothing), gradients = self.rule.backward(saved, delta)
            assert nothing is None
            return (delta_x,), gradients

    check_rule(Bound(regions.RoIPool(bins, 0.125)), lambda x: ops.roi_pool(x, ODD, bins, 0.125), [x])
    for ratio in (-1, 2):
        rule = regions.RoIAlign(bins, 0.125, ratio, aligned)
        check_rule(Bound(rule), lambda x, ratio=ratio: ops.roi_align(x, ODD, bins, 0.125, ratio, aligned), [x])


def test_autograd_is_right_twice_over() -> None:
    x, some = well_apart(2, 1, 3, 5).requires_grad_(), ODD[[1, 2, 6]]
    for call in (
        lambda x: ops.roi_pool(x, some, (2, 1), 0.125),
        lambda x: ops.roi_align(x, some, (2, 1), 0.125),
        lambda x: ops.roi_align(x, some, (1, 2), 0.125, 2, True),
    ):
        assert gradcheck(call, [x])
        assert gradgradcheck(call, [x])


def test_regions_that_share_a_maximum_add_up() -> None:
    """Equation (40): the largest of two regions that overlap gets both their δ."""
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[0, 0, 1, 2] = 5
    rois = torch.tensor([[0, 0, 0, 2, 2], [0, 1, 1, 3, 3], [0, 2, 2, 3, 3]], dtype=torch.float64)
    y, saved = regions.RoIPool((1, 1)).forward(x, rois)
    assert y.flatten().tolist() == [5, 5, 0]
    (delta, _), _ = regions.RoIPool((1, 1)).backward(
        saved, torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1).double()
    )
    assert delta is not None
    assert delta[0, 0, 1, 2] == 11
    assert delta[0, 0, 2, 2] == 100, "of equals the first in row order"
    assert delta.sum() == 111


class Detector(nn.Module):
    """A small detector: maps, pooled regions, scores."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(2, 3, 3, padding=1), pool, nn.Linear(3 * 6, 4)

    def forward(self, pictures: Tensor, boxes: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.pool(self.conv(pictures), boxes).flatten(1))
        return scores


class Functional(Detector):
    def __init__(self) -> None:
        super().__init__(nn.Identity())

    def forward(self, pictures: Tensor, boxes: Tensor) -> Tensor:
        pooled = ops.roi_pool(self.conv(pictures), boxes, (2, 3), 0.125)
        scores: Tensor = self.fc(pooled.flatten(1))
        return scores


@pytest.mark.parametrize("make", [lambda: Detector(RoIPool((2, 3), 0.125)), Functional,
                                  lambda: Detector(RoIAlign((2, 3), 0.125, 2, True))])  # fmt: skip
def test_a_detector_is_taken_by_rules_whole(make: Any) -> None:
    torch.manual_seed(0)
    model = make().double()
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64)
    ran = check_model(model, x, ODD)
    assert all(step.rule.kind != "other" for step in ran)
    assert "regions" in [step.rule.kind for step in ran]
    records = trace(model, (x, ODD), target=torch.zeros(len(ODD), dtype=torch.int64))
    (record,) = [each for each in records if each.rule.kind == "regions"]
    assert record.delta is not None
    assert record.y.shape == (len(ODD), 3, 2, 3)
    model = model.float().eval()
    again = portable.build(json.loads(json.dumps(portable.describe(model, (x.float(), ODD.float()))))).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x.float(), ODD.float()), model(x.float(), ODD.float()))


def test_a_detector_goes_through_a_file(tmp_path: Path) -> None:
    model, x = Detector(RoIPool((2, 3), 0.125)).eval(), torch.randn(2, 2, 6, 7)
    again = load(save(model, tmp_path / "detector.safetensors", input_shape=((2, 6, 7), (5,)))).eval()
    assert torch.equal(again(x, ODD.float()), model(x, ODD.float()))


def test_lists_of_boxes_go_by_rules_too() -> None:
    class Listed(nn.Module):
        def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
            return ops.roi_pool(x, [first, second], 2, 0.125)

    x = well_apart(2, 2, 6, 7)
    ran = tape.forward(Listed(), x, ODD[ODD[:, 0] == 0, 1:], ODD[ODD[:, 0] == 1, 1:])
    assert [step.rule.kind for step in ran] == ["regions"]
    delta = torch.randn_like(ran.output)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(
        ops.roi_pool(leaf, [ODD[ODD[:, 0] == i, 1:] for i in (0, 1)], 2, 0.125), leaf, delta
    )
    assert worst(ran.backward(delta).inputs[0], wanted) < 1e-12


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (torch.zeros(3, 4), r"boxes: got \(3, 4\), wanted \(k, 5\)"),
        ([torch.zeros(3, 5)], r"boxes: got \(3, 5\), wanted \(l, 4\)"),
        ([torch.zeros(1, 4)] * 3, "boxes: got '3 lists'"),
        (torch.tensor([[2.0, 0, 0, 1, 1]]), "boxes: got 'picture 2 to 2', wanted pictures 0 to 1"),
        (torch.tensor([[-1.0, 0, 0, 1, 1]]), "boxes: got 'picture -1"),
        (torch.tensor([[0.0, 0, math.nan, 1, 1]]), "boxes: got 'numbers that are not finite'"),
        (torch.tensor([[0.0, 0, 0, math.inf, 1]]), "boxes: got 'numbers that are not finite'"),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be_are_refused_by_name(boxes: Any, said: str) -> None:
    for call in (ops.roi_pool, ops.roi_align):
        with pytest.raises(ArgumentError, match=said):
            call(torch.zeros(2, 1, 4, 4), boxes, 2)


def test_other_arguments_are_refused_by_name() -> None:
    x, boxes = torch.zeros(2, 1, 4, 4), torch.zeros(1, 5)
    with pytest.raises(ArgumentError, match=r"input: got 'torch.float32 \(1, 4, 4\)'"):
        ops.roi_pool(x[0], boxes, 2)
    with pytest.raises(ArgumentError, match="input: got 'torch.int64"):
        ops.roi_align(x.long(), boxes, 2)
    with pytest.raises(ArgumentError, match=r"output_size: got \(2, 0\)"):
        ops.roi_pool(x, boxes, (2, 0))
    with pytest.raises(ArgumentError, match="spatial_scale: got 0"):
        RoIPool(2, 0)
    with pytest.raises(ArgumentError, match="sampling_ratio: got 1.5"):
        RoIAlign(2, 0.5, 1.5)  # type: ignore[arg-type]
