"""A detector in the explorer: its boxes are predict's, and every number of a chain is the network's in float64."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tasks.detection.test_detection import SMALL, detector, squares
from torch import Tensor, nn

from convscope import explore, predict
from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session
from convscope.layers.regions import roi_align, roi_pool
from convscope.spec import attach, spec_of
from convscope.tasks.detection.task import DetectionTask
from convscope.training import Config

NAMES = ("faster_rcnn", "fast_rcnn", "rcnn")


def network(name: str, **options: Any) -> nn.Module:
    """With a description as training leaves it, and scores that are not all the same."""
    model = detector(name, **options).eval()
    page = {**SMALL, "proposals": "grid", "overlap": 0.3, "score": 0.2, "most": 100}
    DetectionTask(page).prepare(model, Dataset("squares", squares(2), squares(2)), Config())
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for path, each in model.named_modules():
            if path.endswith(("cls_score", "bbox_pred")) and isinstance(each, nn.Linear):
                each.weight.copy_(0.1 * torch.randn(each.weight.shape, generator=chance))
    return model


def file_of(pixels: Tensor) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(out, "PNG")
    return out.getvalue()


PICTURE = squares(1, seed=4).pictures.picture(0)


def opened(name: str, **options: Any) -> tuple[Session, nn.Module]:
    model = network(name, **options)
    session = Session(model)
    session.load_upload(file_of(PICTURE), "upload")
    return session, model


def ask(session: Session, op: str, **arguments: Any) -> dict[str, Any]:
    return dict(session.answer(op, Arguments(arguments), b"").values)


@pytest.mark.parametrize("name", NAMES)
def test_the_boxes_are_those_of_predict(name: str) -> None:
    session, model = opened(name)
    told = ask(session, "boxes")
    (answer,) = predict(model, [PICTURE])
    assert len(told["boxes"]) == len(answer.found.labels) > 1
    for row, box, label, score in zip(
        told["boxes"], answer.found.boxes, answer.found.labels, answer.found.scores, strict=True
    ):
        assert row["box"] == pytest.approx(box.tolist(), abs=1e-3)
        assert row["label"] == int(label)
        assert row["score"] == pytest.approx(float(score), abs=1e-5)
    assert told["size"] == [64, 72]


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_is_the_network_s_own_in_float64(name: str) -> None:
    session, model = opened(name)
    row = ask(session, "boxes")["boxes"][1]
    told = ask(session, "choose_box", region=row["region"], label=row["label"])
    chosen = told["chosen"]
    exact = copy.deepcopy(model).double()
    x = session.snapshot.question.x.double()
    roi = torch.tensor([[0.0, *chosen["roi"]]], dtype=torch.float64)
    with torch.no_grad():
        if name == "rcnn":
            _, _, scores, moves, *_ = exact(x, torch.tensor([told["size"]]), roi)
        else:
            scores, moves = exact.roi_heads(exact.backbone(x), roi)  # type: ignore[operator]
    assert chosen["scores"] == pytest.approx(scores[0].tolist(), rel=1e-4, abs=1e-4)
    assert chosen["probabilities"] == pytest.approx(torch.softmax(scores[0], 0).tolist(), abs=1e-4)
    assert session.snapshot.logits[0].tolist() == pytest.approx(chosen["scores"], rel=1e-4, abs=1e-4)
    assert session.snapshot.question.target == row["label"] + 1
    d = moves[0, row["label"] + 1].tolist()
    for told_d, value in zip(chosen["regression"], d, strict=True):
        assert told_d["value"] == pytest.approx(value, rel=1e-3, abs=1e-4)
        whole = sum(term["w"] * term["x"] for term in told_d["terms"]) + told_d["rest"] + told_d["bias"]
        assert whole == pytest.approx(told_d["value"], rel=1e-4, abs=1e-5)
    x1, y1, x2, y2 = chosen["roi"]
    w, h = x2 - x1, y2 - y1
    s: Any = model.deviations
    expected = [
        x1 + w / 2 + w * s[0] * d[0], y1 + h / 2 + h * s[1] * d[1], w * math.exp(s[2] * d[2]), h * math.exp(s[3] * d[3])
    ]  # fmt: skip
    assert [each["result"] for each in chosen["decoding"]] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    corners = [expected[0] - expected[2] / 2, expected[1] - expected[3] / 2]
    corners += [expected[0] + expected[2] / 2, expected[1] + expected[3] / 2]
    assert chosen["decoded"] == pytest.approx(corners, rel=1e-3, abs=1e-2)
    clipped = [min(max(each, 0), side) for each, side in zip(corners, (72, 64, 72, 64), strict=True)]
    assert chosen["clipped"] == pytest.approx(clipped, rel=1e-3, abs=1e-2)
    assert chosen["kept"]


def test_the_anchor_is_the_one_that_became_the_region() -> None:
    session, _ = opened("faster_rcnn")
    chosen = ask(session, "boxes")["chosen"]
    anchor = chosen["anchor"]
    x, y, w, h = (row["result"] for row in anchor["decoding"])
    box = [max(0, x - w / 2), max(0, y - h / 2), min(72, x + w / 2), min(64, y + h / 2)]
    assert chosen["roi"] == pytest.approx(box, abs=1e-2)
    assert anchor["probability"] == pytest.approx(1 / (1 + math.exp(-anchor["logit"])), rel=1e-9)


def test_nms_follows_the_thresholds() -> None:
    """By the plain rule, one box after another; what fell overlaps the one that took its place."""
    session, _ = opened("fast_rcnn")
    assert session.detector is not None
    session.detector.settings = dataclasses.replace(session.detector.settings, most=100_000)
    counts = []
    for overlap in (0.1, 0.5, 0.9):
        told = ask(session, "boxes", overlap=overlap, score=0.3)
        rows = sorted(told["boxes"] + told["suppressed"], key=lambda row: -row["score"])
        kept: list[dict[str, Any]] = []
        for row in rows:
            same = [each for each in kept if each["label"] == row["label"]]
            if all(iou(row["box"], each["box"]) <= overlap for each in same):
                kept.append(row)
        own = [(row["region"], row["label"]) for row in told["boxes"]]
        assert own == [(row["region"], row["label"]) for row in kept]
        for row in told["suppressed"]:
            if row["by"] is not None:
                assert row["overlap"] == pytest.approx(iou(row["box"], told["boxes"][row["by"]]["box"]), abs=1e-4)
                assert row["overlap"] > overlap
        counts.append(len(own))
    assert counts[0] < counts[2]


def iou(one: list[float], other: list[float]) -> float:
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * tall / (areas - wide * tall)


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_a_bin_is_the_sum_that_is_told_and_its_delta_autograd_s(pooling: str) -> None:
    session, _ = opened("fast_rcnn", pooling=pooling)
    network, snapshot = session.network, session.snapshot
    layer = snapshot.layer("pool")
    assert layer.family == {"max": "roi_pool", "align": "roi_align"}[pooling]
    maps = layer.inputs[0].double().requires_grad_()
    roi = layer.inputs[1].double()
    y = roi_pool(maps, roi, 7, 0.125) if pooling == "max" else roi_align(maps, roi, 7, 0.125, 2, True)
    values = y.detach()
    for unit in ((0, 0, 0), (3, 6, 2), (7, 3, 6)):
        found = snapshot.forward("pool", unit)
        (gradient,) = torch.autograd.grad(y[(0, *unit)], maps, retain_graph=True)
        assert found.terms.coefficient is not None
        assert found.terms.source is not None
        own = np.zeros(maps.shape[1:])
        np.add.at(own, tuple(found.terms.source.T), found.terms.coefficient)
        assert np.abs(own - gradient[0].numpy()).max() < 1e-6
        assert float(found.terms.product.sum()) == pytest.approx(float(values[(0, *unit)]), rel=1e-5, abs=1e-6)
        assert found.value == pytest.approx(float(values[(0, *unit)]), rel=1e-5, abs=1e-6)
    delta = layer.delta
    assert delta is not None
    (expected,) = torch.autograd.grad(y, maps, delta.double())
    before = network.nodes["pool"].sources[0]
    place = tuple(int(each) for each in torch.nonzero(expected[0])[0])
    upstream = snapshot.layer(before).upstream
    assert upstream is not None
    assert float((upstream.double() - expected).abs().max()) < 1e-5 * float(expected.abs().max()) + 1e-9
    told = snapshot.backward(before, place)
    assert told.value == pytest.approx(float(snapshot.deltas()[before][(0, *place)]), rel=1e-4, abs=1e-8)
    header = ask(session, "elastic", layer="pool", map=0)
    assert [panel["layer"] for panel in header["panels"]] == [before, "pool"]


def extent(session: Session, layer: str) -> list[list[int]]:
    """[first, last + 1] of the rows and columns of the picture that a layer's values hang on, by autograd."""
    x = session.snapshot.question.x.detach().requires_grad_()
    held: list[Tensor] = []
    graph: Any = session.network.graph
    hook = graph.get_submodule(layer).register_forward_hook(lambda *call: held.append(call[2]))
    graph(x)
    hook.remove()
    (gradient,) = torch.autograd.grad(held[0].sum(), x)
    hit = gradient[0].abs().sum(0) > 0
    if not bool(hit.any()):  # of a region beyond the map
        return [[0, 0], [0, 0]]
    return [[int(at.min()), int(at.max()) + 1] for at in (torch.nonzero(hit.any(1)), torch.nonzero(hit.any(0)))]


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_what_a_region_sees_is_what_its_values_hang_on(pooling: str) -> None:
    """Of positive weights on a bright picture every path counts; a maximum leaves out what is not the largest."""
    session, model = opened("fast_rcnn", pooling=pooling)
    for each in model.parameters():
        nn.init.uniform_(each, 0.01, 0.1)
    session.load_upload(file_of(200 + PICTURE // 8), "upload")
    regions = ask(session, "boxes", score=0.0)
    rows = {row["region"]: row for row in [*regions["boxes"], *regions["suppressed"]]}
    for region in list(rows)[:6]:
        ask(session, "choose_box", region=region, label=rows[region]["label"])
        told = ask(session, "box_field")["boxes"]["input"]
        own = extent(session, "pool")
        if pooling == "align":
            assert told == own
        assert all(side[0] <= mine[0] and mine[1] <= side[1] for side, mine in zip(told, own, strict=True))


def test_what_a_warped_region_sees_is_its_window() -> None:
    session, _ = opened("rcnn")
    told = ask(session, "box_field")
    assert told["layer"] == "input"
    assert session.detector is not None
    window = session.detector.view.region[0, 1:].tolist()
    for (first, end), low, high, side in zip(
        told["boxes"]["input"], window[1::-1], window[:1:-1], session.network.input_shape[1:], strict=True
    ):
        assert abs(first - max(0, low)) <= 1.5
        assert abs(end - min(side, high)) <= 1.5


def test_what_cannot_be_shown_is_refused_by_name(tmp_path: Any) -> None:
    session, model = opened("fast_rcnn")
    for arguments, said in (
        ({"region": 9999, "label": 0}, "region: got 9999"),
        ({"region": 0, "label": 2}, "label: got"),
    ):
        with pytest.raises(ArgumentError, match=said):
            ask(session, "choose_box", **arguments)
    with pytest.raises(ArgumentError, match="layer: got 'box_head.fc7', wanted a layer before the region is pooled"):
        ask(session, "field", layer="box_head.fc7", index=[0])
    with pytest.raises(ArgumentError, match="save: got 'a detector'"):
        ask(session, "snippet", kind="loss")
    with pytest.raises(ArgumentError, match=r"layer 'pool' \(RoIAlign\)"):
        explore(model, save=tmp_path / "page.html")
    described = spec_of(model)
    assert described is not None
    answers = described.answers
    more = {**answers.more, "scales": "64,96"}
    attach(model, described.replace(answers=type(answers)(answers.kind, answers.names, more)))
    with pytest.raises(ArgumentError, match=r"model: got 'Fast R-CNN on several scales \(64,96\)'"):
        Session(model)
    from convscope import create_model

    with pytest.raises(ArgumentError, match="wanted a detector: R-CNN, Fast R-CNN or Faster R-CNN"):
        ask(Session(create_model("lenet5")), "boxes")
