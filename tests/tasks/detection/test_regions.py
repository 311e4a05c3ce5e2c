"""Regions proposed beside a picture, Fast R-CNN that learns from them, and what R-CNN fits after its network."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from tests.oracles import worst
from tests.tasks.detection.test_detection import SMALL, squares

from convscope import evaluate, fit, load, predict, save
from convscope.data import Dataset, Feed, Order, Stage
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError
from convscope.layers.box_coding import decode
from convscope.layers.boxes import box_iou
from convscope.models import create_model
from convscope.models.rcnn import RCNN
from convscope.tasks.detection import proposals, rcnn
from convscope.tasks.detection.objective import DetectionObjective
from convscope.tasks.detection.preparing import with_things
from convscope.tasks.detection.proposed import EVERY, Proposed, drawing
from convscope.tasks.detection.task import DetectionTask


@pytest.fixture(autouse=True)
def _one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def recall(regions: torch.Tensor, boxes: torch.Tensor) -> float:
    return float((box_iou(boxes, regions).amax(1) >= 0.5).float().mean())


@pytest.mark.parametrize("method", ["selective_search", "grid"])
def test_proposals_cover_what_is_there(method: str) -> None:
    if method == "selective_search":
        pytest.importorskip("cv2.ximgproc")
    examples = squares(6)
    for place in range(6):
        picture = examples.pictures.picture(place)
        regions = proposals.propose(picture, method)
        assert 0 < len(regions) <= 2000
        assert (regions[:, 2:] > regions[:, :2]).all()
        assert float(regions.min()) >= 0
        assert (regions.amax(0) <= torch.tensor([72.0, 64, 72, 64]) + 1e-3).all()
        assert recall(regions, examples.boxes[place]) >= (0.99 if method == "selective_search" else 0.3)


def test_a_tiny_picture_is_a_region_itself() -> None:
    for method in ("selective_search", "grid"):
        regions = proposals.propose(torch.zeros(1, 1, 1, dtype=torch.uint8), method)
        assert len(regions) >= 1
        assert (regions[:, 2:] > regions[:, :2]).all()
        assert method == "grid" or regions.tolist() == [[0, 0, 1, 1]]


def test_regions_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = squares(1).pictures.picture(0)
    kept = proposals.KeptProposals("grid", 50, tmp_path / "kept")
    first = kept.of(picture)
    monkeypatch.setattr(proposals, "propose", lambda *_: pytest.fail("searched again"))
    assert torch.equal(kept.of(picture), first)
    monkeypatch.undo()
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert torch.equal(kept.of(picture), first), "a damaged file is made anew"
    kept.of(255 - picture)
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_without_opencv_the_grid_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(proposals, "_opencv", lambda: None)
    with caplog.at_level(logging.WARNING, "convscope.tasks"):
        assert proposals.method_of("auto") == "grid"
    assert "proposed by a plain grid" in caplog.text
    with pytest.raises(ArgumentError, match="proposals: got 'selective_search', wanted OpenCV.*detection"):
        proposals.selective_search(torch.zeros(3, 20, 20, dtype=torch.uint8))


def test_regions_travel_with_the_boxes() -> None:
    examples = squares(3)
    regions = Ragged.of([torch.tensor([[0.0, 0, 9, 9]]).expand(place + 1, 4) for place in range(3)], torch.float32)
    proposed = Proposed(examples, regions)
    (batch,) = Feed(proposed, Order(3, 3, shuffle=False), (EVERY,))
    assert batch.inputs[2][:, 0].tolist() == [0, 1, 1, 2, 2, 2]
    assert torch.equal(batch.targets.boxes, examples.boxes.values)
    assert torch.equal(batch.targets.labels, examples.labels)
    (drawn,) = Feed(proposed, Order(3, 3, shuffle=False), (drawing(0.1),))
    assert torch.equal(drawn.targets.boxes, examples.boxes.values)
    assert drawn.inputs[2].shape[1] == 5
    assert proposed.select(torch.tensor([2])).batch(torch.tensor([0])).targets.counts.item() == 3 + len(
        examples.boxes[2]
    )
    with pytest.raises(ArgumentError, match="regions: got 2, wanted a row for each of the 3 pictures"):
        Proposed(examples, regions.select(torch.tensor([0, 1])))


def trained(name: str, folder: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    model = create_model(name, classes=2, in_channels=3, small=True, width=0.5, hidden=32)
    data = Dataset("squares", squares(24), squares(6, seed=1))
    settings = {**SMALL, "proposals": "selective_search"}
    return fit(
        model, data, batch_size=4, learning_rate=4e-3, settings=settings, watch=False, run_dir=str(folder),
        engine="torch", device="cpu", **options,
    ), data  # fmt: skip


@pytest.mark.long
def test_fast_rcnn_learns(tmp_path: Path) -> None:
    pytest.importorskip("cv2.ximgproc")
    result, data = trained("fast_rcnn", tmp_path / "run", epochs=8, evaluate_every=8)
    assert set(result.history[-1].train) == {"loss", "class", "box"}
    assert result.metrics.mean_ap > 0.8
    model = load(tmp_path / "run" / "model.safetensors")
    found = predict(model, [data.test.pictures.picture(0)])
    assert len(found) == 1
    assert len(found[0].things(0.5)) >= 1


@pytest.mark.long
def test_rcnn_with_machines_and_boxes(tmp_path: Path) -> None:
    """Margins put the things first; the regression moves regions towards them; the file is the same network."""
    pytest.importorskip("cv2.ximgproc")
    result, data = trained("rcnn", tmp_path / "run", epochs=3, evaluate_every=3)
    assert set(result.history[-1].train) == {"loss", "class"}
    network = result.model
    assert isinstance(network, RCNN)
    assert not network.bbox_pred.weight.any(), "fine-tuning leaves the boxes alone"
    task = DetectionTask({**SMALL, "proposals": "selective_search"})
    features = rcnn.features_of(network, task, data, 60)
    assert len(features.units) == len(features.truth) == len(features.overlaps)
    assert int((features.truth >= 0).sum()) == len(data.train.labels)
    weights, biases, told = rcnn.fit_machines(features)
    margins = features.units @ weights.T + biases
    for label in range(2):
        own, other = features.truth == label, features.overlaps[:, label] < rcnn.NEGATIVE
        assert float(margins[own, label].median()) > float(margins[other, label].quantile(0.95))
        assert told[label]["positives"] == int(own.sum())
    empty = create_model("rcnn", classes=2, in_channels=3, small=True, width=0.5, hidden=32, svm=True)
    assert isinstance(empty, RCNN)
    described = network.__dict__["convscope_spec"]
    machines = rcnn.with_machines(network, empty, weights, biases)
    machines.__dict__["convscope_spec"] = described.replace(options={**described.options, "svm": True})
    plain = evaluate(machines, data, engine="torch")
    assert plain["mean_ap"] > 0.8
    moved = rcnn.with_boxes(machines, *rcnn.fit_boxes(features, 1.0))
    answered = moved.bbox_pred(features.maps).reshape(len(features.near), -1, 4).detach()
    nearer = answered[torch.arange(len(features.near)), features.near + 1] - features.moves
    assert float(nearer.square().sum()) < 0.5 * float(features.moves.square().sum())
    again = load(save(moved, tmp_path / "model.safetensors"))
    assert evaluate(again, data, engine="torch")["mean_ap"] == pytest.approx(
        evaluate(moved, data, engine="torch")["mean_ap"]
    )


def test_ridge_is_the_normal_equation() -> None:
    """Against scikit-learn's own ridge, and on a case where the answer is known: W → 0 as λ → ∞."""
    from sklearn.linear_model import Ridge

    chance = torch.Generator().manual_seed(0)
    maps, moves = torch.randn(50, 7, generator=chance), torch.randn(50, 4, generator=chance)
    near = (torch.arange(50) % 2) * 2  # classes 0 and 2 of three
    empty = torch.zeros(0)
    features = rcnn.Features(empty, empty, torch.zeros(1, 3), maps, near, moves)
    weights, biases = rcnn.fit_boxes(features, 3.0)
    for label in (0, 2):
        own = near == label
        machine = Ridge(alpha=3.0).fit(maps[own].double().numpy(), moves[own].double().numpy())
        assert numpy.abs(weights[label].numpy() - machine.coef_).max() < 1e-6
        assert numpy.abs(biases[label].numpy() - machine.intercept_).max() < 1e-6
    assert not weights[1].any()
    strong, mean = rcnn.fit_boxes(features, 1e12)
    assert float(strong.abs().max()) < 1e-6
    assert worst(mean[0], moves[near == 0].mean(0)) < 1e-5


def test_machines_need_both_sides() -> None:
    empty = torch.zeros(0)
    features = rcnn.Features(torch.randn(5, 3), torch.full((5,), -1), torch.zeros(5, 1), empty, empty, empty)
    with pytest.raises(ArgumentError, match="class 0 without true boxes or background"):
        rcnn.fit_machines(features)


def test_a_warped_region_has_its_context() -> None:
    """The middle of the window is the region itself; the picture beyond its edge is 0."""
    model = create_model("rcnn", classes=1, in_channels=1, small=True, width=0.25, hidden=8)
    assert isinstance(model, RCNN)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    picture = (x + 100 * y)[None, None]
    inner = model.side - 2 * model.context
    region = torch.tensor([[0.0, 20, 12, 20 + inner, 12 + inner]])
    window = model.warped(picture, region)[0, 0]
    start = 20 - model.context
    assert worst(window[0], (torch.arange(model.side) + start + 100.0 * (12 - model.context))) < 1e-4
    corner = model.warped(picture + 1, torch.tensor([[0.0, 0, 0, inner, inner]]))[0, 0]
    assert float(corner[0].abs().max()) <= 1
    assert dataclasses.is_dataclass(rcnn.Features)
    assert decode(region[:, 1:], torch.zeros(1, 4)).tolist() == region[:, 1:].tolist()


def test_two_processes_draw_what_one_does() -> None:
    """Regions, and anchors' weights, of each picture: those of the whole batch, whichever process has it."""
    examples = squares(6)
    regions = Ragged.of([60 * torch.rand(300, 4).sort(1).values for _ in range(6)], torch.float32)
    model = create_model("faster_rcnn", classes=2, in_channels=3, small=True, width=0.25, hidden=16).double()
    objective = DetectionObjective(model.train())
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    def looked_at(rank: int, world: int, seed: int = 3) -> list[tuple[torch.Tensor, ...]]:
        order = Order(6, 5, seed=seed, rank=rank, world=world)
        found: list[tuple[torch.Tensor, ...]] = []
        for given, things in zip(
            Feed(Proposed(examples, regions), order, (drawing(0.1),)),
            Feed(examples, order, (Stage("things", with_things),)),
            strict=True,
        ):
            pictures, sizes, boxes, seeds = things.inputs
            with torch.no_grad():
                outputs = model(pictures.double(), sizes, boxes, seeds)
            weights = objective.of_anchors(outputs, things.targets).weights * len(pictures)
            for place in range(things.examples):
                drawn, own = (rois[rois[:, 0] == place, 1:] for rois in (given.inputs[2], outputs.rois))
                found.append((drawn, own, weights[place]))
        return found

    one = looked_at(0, 1)
    first, second = looked_at(0, 2), looked_at(1, 2)
    assert (len(one), len(first), len(second)) == (6, 2, 4)
    for mine, its in zip(one, [*first, *second], strict=True):
        for a, b in zip(mine, its, strict=True):
            assert torch.equal(a, b)
    for mine, its in zip(one, looked_at(0, 1, seed=4), strict=True):
        assert not torch.equal(mine[0], its[0])
        assert not torch.equal(mine[2], its[2])
