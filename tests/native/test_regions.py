"""The engine's kernels of boxes and regions against plain tensor algebra: bit for bit where they choose, on every
instruction set, with one thread and several, forward, back and back again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.layers.test_boxes import some_boxes, some_scores, suppressed_by_loops
from tests.layers.test_regions import ODD
from tests.oracles import worst
from torch import Tensor

from convscope import ops
from convscope.layers import fast_regions
from convscope.native import availability, processors

pytestmark = pytest.mark.skipif(
    not availability.available() or not hasattr(availability.engine(), "pool_regions"),
    reason="the native engine is not built",
)
ISAS = availability.engine().isas() if availability.available() else []


@pytest.fixture(params=[(isa, threads) for isa in ISAS for threads in (1, 3)], ids=str, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    isa, threads = request.param
    before = availability.engine().isa()
    availability.engine().set_isa(isa)
    monkeypatch.setattr(processors, "threads", lambda: threads)
    yield
    availability.engine().set_isa(before)


def plainly(call: Any, *arguments: Any) -> Tensor:
    """Without the engine."""
    kept = dict(fast_regions.FAST)
    fast_regions.FAST.clear()
    try:
        found: Tensor = call(*arguments)
        return found
    finally:
        fast_regions.FAST.update(kept)


def maps(channels: int, seed: int = 0) -> Tensor:
    x = torch.randn(2, channels, 6, 7, generator=torch.Generator().manual_seed(seed))
    return ((4 * x).round() / 4).requires_grad_()  # many equal ones


@pytest.mark.parametrize(("channels", "bins"), [(1, (1, 1)), (3, (2, 3)), (16, (9, 2)), (17, (7, 7)), (70, (1, 3))])
def test_pooling_chooses_the_same_places(channels: int, bins: tuple[int, int]) -> None:
    assert fast_regions.fast_way("pool", maps(1)) is not None
    x, rois = maps(channels), ODD.float()
    y = ops.roi_pool(x, rois, bins, 0.125)
    assert type(y.grad_fn).__name__ == "_PooledBackward"
    wanted = plainly(ops.roi_pool, x, rois, bins, 0.125)
    assert torch.equal(y, wanted)
    delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (own,), (other,) = (torch.autograd.grad(each, x, delta) for each in (y, wanted))
    assert other.abs().max() > 0
    assert worst(own, other) < 1e-6
    exact = x.detach().double().requires_grad_()
    (truth,) = torch.autograd.grad(ops.roi_pool(exact, rois, bins, 0.125), exact, delta.double())
    assert worst(own.double(), truth) < 1e-5


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(
    ("channels", "bins", "ratio"), [(1, (1, 1), 2), (3, (2, 3), -1), (16, (9, 2), 1), (17, (7, 7), 2), (70, (1, 3), 0)]
)
def test_align_is_as_exact_as_float32(channels: int, bins: tuple[int, int], ratio: int, aligned: bool) -> None:
    x, rois = maps(channels), ODD.float()
    y = ops.roi_align(x, rois, bins, 0.125, ratio, aligned)
    assert type(y.grad_fn).__name__ == "_MixedBackward"
    exact = x.detach().double().requires_grad_()
    wanted = ops.roi_align(exact, ODD, bins, 0.125, ratio, aligned)
    assert worst(y.detach().double(), wanted.detach()) < 1e-5
    delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (own,) = torch.autograd.grad(y, x, delta)
    (truth,) = torch.autograd.grad(wanted, exact, delta.double())
    assert worst(own.double(), truth) < 1e-5
    assert worst(1.0001 * own.double(), truth) > 1e-5, "a canary"


def test_what_goes_back_goes_back_again() -> None:
    x, rois = maps(5), ODD.float()
    calls: list[Any] = [
        lambda x: ops.roi_pool(x, rois, 2, 0.125),
        lambda x: ops.roi_align(x, rois, 2, 0.125, 2, True),
    ]
    for call in calls:
        found = []
        for engine in (True, False):
            y = call(x) if engine else plainly(call, x)
            delta = torch.linspace(-1, 1, y.numel()).reshape(y.shape).requires_grad_()
            (first,) = torch.autograd.grad(y, x, delta, create_graph=True)
            (second,) = torch.autograd.grad((first * torch.linspace(0, 1, x.numel()).reshape(x.shape)).sum(), delta)
            found.append(second)
        assert found[1].abs().max() > 0
        assert worst(*found) < 1e-5


def test_what_is_no_number_is_the_largest() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 0] = math.nan
    rois = torch.tensor([[0.0, 0, 0, 1, 1]])
    assert ops.roi_pool(x, rois, 1).isnan().all()
    assert plainly(ops.roi_pool, x, rois, 1).isnan().all()
    x = torch.full((1, 1, 2, 2), -math.inf)
    assert ops.roi_pool(x, rois, 1).item() == -math.inf


def test_no_regions_and_strange_strides() -> None:
    x = maps(3)
    assert ops.roi_pool(x, torch.zeros(0, 5), 2).shape == (0, 3, 2, 2)
    turned = x.detach().permute(0, 1, 3, 2)
    rois = ODD.float()[:, [0, 2, 1, 4, 3]]
    assert torch.equal(ops.roi_pool(turned, rois, 2, 0.125), plainly(ops.roi_pool, turned, rois, 2, 0.125))
    assert torch.equal(ops.roi_pool(x, ODD.float(), 2, 0.125).transpose(2, 3), ops.roi_pool(turned, rois, 2, 0.125))


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 33, 900])
def test_suppression_keeps_the_same_boxes(n: int) -> None:
    boxes, scores = (some_boxes(n) * 4).round() / 4, some_scores(n, levels=50)
    groups = (torch.arange(n) * 7 % 5 - 2) * 2**33
    for threshold in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0, -0.5):
        kept = ops.nms(boxes, scores, threshold)
        assert torch.equal(kept, plainly(ops.nms, boxes, scores, threshold))
        own = ops.batched_nms(boxes, scores, groups, threshold)
        assert torch.equal(own, plainly(ops.batched_nms, boxes, scores, groups, threshold))
    if n == 33:
        assert ops.nms(boxes, scores, 0.1).tolist() == suppressed_by_loops(boxes, scores, 0.1)


def test_odd_boxes_are_kept_as_before() -> None:
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [5, 5, 2, 2], [0, 0, 9, 9], [math.nan, 0, 9, 9], [0, 0, 9, 9]])
    scores = torch.linspace(1, 0, 6)
    assert torch.equal(ops.nms(boxes, scores, 0.5), plainly(ops.nms, boxes, scores, 0.5))


def test_the_engine_checks_what_it_is_given() -> None:
    engine = availability.engine()
    x, y = torch.zeros(1, 2, 3, 3).numpy(), torch.zeros(1, 2, 1, 1).numpy()
    chosen = torch.zeros(1, 2, 1, 1, dtype=torch.int32).numpy()
    whole, first = torch.tensor([[3]]).numpy(), torch.tensor([[0]]).numpy()
    with pytest.raises(ValueError, match="pictures: wanted those that x has"):
        engine.pool_regions(x, torch.tensor([1]).numpy(), first, whole, first, whole, y, chosen)
    with pytest.raises(ValueError, match="bins: wanted places on the map"):
        engine.pool_regions(x, torch.tensor([0]).numpy(), first, whole + 1, first, whole, y, chosen)
    with pytest.raises(ValueError, match="chosen: wanted places on the map"):
        engine.pool_regions_back(y, chosen + 9, torch.tensor([0]).numpy(), x)
    matrix = torch.zeros(1, 1, 4).numpy()
    with pytest.raises(ValueError, match="down: wanted"):
        engine.mix_regions(x, torch.tensor([0]).numpy(), matrix, matrix, y)
