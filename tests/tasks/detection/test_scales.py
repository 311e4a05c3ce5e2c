"""Fast R-CNN on pictures of several scales: which region is looked at where, learned, saved, answered, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tasks.detection.test_detection import SMALL, detector, squares

from convscope import evaluate, fit, load, predict
from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.models.fast_rcnn import FastRCNN
from convscope.models.picture_pyramid import level_of, resized
from convscope.seeding import SharedChance
from convscope.tasks.detection.proposed import drawn_levels
from convscope.tasks.detection.settings import DetectionSettings
from convscope.tasks.detection.task import DetectionTask


def test_a_region_is_looked_at_where_it_is_nearest_to_224() -> None:
    """Of the factors ½, 1 and 4: 448² is 224² at ½, 224² at 1, 56² at 4; 100² at 4 is 400², at 1 nearer."""
    sides = torch.tensor([448.0, 224, 56, 100, 10])
    rois = torch.stack((0 * sides, 0 * sides + 3, 0 * sides + 5, sides + 3, sides + 5), 1)
    assert level_of(rois, (0.5, 1.0, 4.0)).tolist() == [0, 1, 2, 1, 2]
    assert level_of(rois[:0], (0.5, 1.0)).tolist() == []


def test_pictures_and_boxes_grow_together() -> None:
    picture = torch.zeros(1, 1, 40, 50)
    picture[:, :, 10:20, 20:40] = 1
    for factor in (0.5, 1.0, 1.7):
        larger, factors = resized(picture, factor, 8)
        assert larger.shape[2] % 8 == larger.shape[3] % 8 == 0
        x1, y1, x2, y2 = (torch.tensor([20.0, 10, 40, 20]) * factors).tolist()
        inside = larger[0, 0, round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
        assert float(inside.min()) > 0.95
        assert float(larger.sum()) == pytest.approx(200 * float(factors[0] * factors[1]), rel=0.05)
    assert torch.equal(resized(picture, 1.0, 8)[0][:, :, :40, :50], picture)


def test_every_region_has_the_answer_of_its_own_scale() -> None:
    """By the loop: a network of one scale, given one region on the picture made larger."""
    model = detector("fast_rcnn").eval()
    assert isinstance(model, FastRCNN)
    x, sizes = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)), torch.tensor([[64, 96]] * 2)
    rois = torch.tensor([[0.0, 4, 4, 84, 60], [1, 20, 30, 40, 50], [0, 3, 3, 11, 12], [1, 0, 0, 96, 64]])
    with torch.inference_mode():
        plain = model(x, sizes, rois)
        model.pyramid = (1.0,)
        assert torch.equal(model(x, sizes, rois).scores, plain.scores)
        model.pyramid = (2.0, 3.5, 6.0)
        found = model(x, sizes, rois)
        levels = level_of(rois, model.pyramid).tolist()
        model.pyramid = ()
        assert len(set(levels)) > 1
        for place, level in enumerate(levels):
            larger, factors = resized(x, (2.0, 3.5, 6.0)[level], model.stride)
            roi = torch.cat((rois[place, :1], rois[place, 1:] * factors))[None]
            own = model(larger, sizes, roi)
            assert torch.allclose(found.scores[place], own.scores[0], atol=1e-5)
            assert torch.allclose(found.differences[place], own.differences[0], atol=1e-5)
    assert not torch.allclose(found.scores, plain.scores)
    assert torch.equal(found.rois, rois)


def test_a_picture_in_training_has_a_scale_of_its_own() -> None:
    """By the loop: a network of one scale, given one picture made larger, on the same canvas."""
    model = detector("fast_rcnn").eval().double()
    assert isinstance(model, FastRCNN)
    chance = torch.Generator().manual_seed(2)
    x, sizes = torch.randn(3, 3, 48, 40, generator=chance, dtype=torch.float64), torch.tensor([[48, 40]] * 3)
    rois = torch.tensor([[0.0, 4, 4, 34, 40], [1, 20, 30, 36, 44], [2, 3, 3, 11, 12], [2, 0, 0, 40, 48]]).double()
    pyramid = (0.5, 1.0, 1.7, 3.0)
    levels = torch.tensor([[2, 2], [0, 2], [1, 2]])  # the largest is 1.7: 81.6 × 68, that is 82 × 68 on 88 × 72
    with torch.inference_mode():
        model.pyramid = pyramid
        found = model(x, sizes, rois, levels)
        model.pyramid = ()
        for place, row in enumerate(rois):
            picture = int(row[0])
            larger, factors = resized(x[picture : picture + 1], pyramid[int(levels[picture, 0])], model.stride)
            canvas = x.new_zeros(1, 3, 88, 72)
            canvas[:, :, : larger.shape[2], : larger.shape[3]] = larger
            own = model(canvas, sizes[:1], torch.cat((row.new_zeros(1), row[1:] * factors))[None])
            torch.testing.assert_close(found.scores[place], own.scores[0], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found.differences[place], own.differences[0], rtol=1e-12, atol=1e-12)


def test_scales_are_drawn_for_each_picture_whoever_has_it() -> None:
    levels = drawn_levels(5, 400, torch.Generator().manual_seed(0))
    assert (torch.bincount(levels[:, 0]) > 50).all()
    assert levels[:, 1].tolist() == [4] * 400
    parts = [drawn_levels(3, b - a, SharedChance.of(7, a, b, 6)) for a, b in ((0, 2), (2, 5), (5, 6))]
    assert torch.equal(torch.cat(parts), drawn_levels(3, 6, torch.Generator().manual_seed(7)))


def test_it_learns_and_keeps_its_scales(tmp_path: Path) -> None:
    data = Dataset("squares", squares(16), squares(4, seed=1))
    settings = {**SMALL, "proposals": "grid", "scales": "64,96"}
    result = fit(
        detector("fast_rcnn"), data, epochs=3, batch_size=4, learning_rate=4e-3, settings=settings, evaluate_every=3,
        watch=False, run_dir=str(tmp_path / "run"), engine="torch", device="cpu",
    )  # fmt: skip
    assert result.history[-1].train["loss"] < result.history[0].train["loss"]
    again = load(tmp_path / "run" / "model.safetensors")
    found = evaluate(again, data.test, engine="torch").to_json()
    assert again.pyramid == (1.0, 1.5)
    assert found["mean_ap"] == pytest.approx(result.metrics.to_json()["mean_ap"], abs=1e-6)
    picture = data.test.pictures.picture(0)
    (several,) = predict(again, [picture])
    (one,) = DetectionTask({"scales": "", "proposals": "grid"}).predict(again, [picture])
    assert again.pyramid == ()
    assert several.found.scores.tolist() != one.found.scores.tolist()


def test_scales_that_cannot_be_are_refused() -> None:
    assert DetectionSettings(scales="paper", shorter=600).pyramid == pytest.approx(
        (0.8, 0.96, 1.1467, 1.44, 2), rel=1e-4
    )
    for wrong in ("many", "480,", "576,480", "480,480", "8,480", "480;576"):
        with pytest.raises(ArgumentError, match="scales: got .*, wanted whole numbers of pixels from 16 on"):
            DetectionTask({"scales": wrong})
    picture = torch.zeros(3, 40, 40, dtype=torch.uint8)
    for name, said in (("faster_rcnn", "FasterRCNN"), ("rcnn", "RCNN")):
        with pytest.raises(ArgumentError, match=f"scales: got '64,96', wanted Fast R-CNN, not {said}"):
            list(DetectionTask({"scales": "64,96"}).predict(detector(name), picture))
