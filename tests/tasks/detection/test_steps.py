"""The picture of how boxes came about: its regions, anchors and windows are those of the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.cli.conftest import call_convscope
from tests.tasks.detection.test_detection import SMALL, detector, prepared, squares

from convscope import create_model, save
from convscope.layers.box_coding import decode
from convscope.layers.boxes import box_iou
from convscope.tasks.detection.predict import Detection
from convscope.tasks.detection.task import DetectionTask


def answered(name: str) -> Detection:
    """A network's answer to one picture, which it sees at its own size."""
    model = prepared(detector(name)).eval()
    with torch.no_grad():
        for each in model.modules():  # so that its boxes are not its regions
            if isinstance(each, torch.nn.Linear) and each.out_features == 12:
                each.bias.copy_(torch.linspace(-0.4, 0.4, 12))
    picture = squares(1).pictures.picture(0)
    task = DetectionTask({**SMALL, "proposals": "grid", "score": 0.0, "shown": 0.0, "overlap": 1.0, "most": 500})
    task._named = frozenset(vars(task.settings))
    (answer,) = task.predict(model, [picture], engine="torch")
    assert isinstance(answer, Detection)
    return answer


@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn"])
def test_every_box_names_the_region_that_it_was_made_of(name: str) -> None:
    answer = answered(name)
    rois, found = answer.steps.regions, answer.found
    assert len(found.labels)
    assert int(found.regions.max()) < len(rois)
    if name == "rcnn":
        centre = (answer.steps.windows[:, :2] + answer.steps.windows[:, 2:]) / 2
        assert torch.allclose(centre, (rois[:, :2] + rois[:, 2:]) / 2, atol=1e-4)
        share = (answer.steps.windows - rois)[:, 2:] / (rois[:, 2:] - rois[:, :2])
        assert torch.allclose(share, torch.full_like(share, 2 / 28), atol=1e-4), "2 of 32 pixels at every edge"
        assert answer.steps.bins == (1, 1)
    else:
        assert torch.equal(answer.steps.windows, rois)
        assert answer.steps.bins == (7, 7)
    assert (answer.steps.anchors is not None) == (name == "faster_rcnn")


def test_anchors_are_the_best_and_become_regions() -> None:
    steps = answered("faster_rcnn").steps
    assert steps.anchors is not None
    assert steps.moved is not None
    assert steps.objectness is not None
    assert steps.objectness.tolist() == sorted(steps.objectness.tolist(), reverse=True)
    best = steps.moved[0].clamp(min=0)
    best = torch.minimum(best, torch.tensor([72.0, 64, 72, 64]))
    assert torch.allclose(steps.regions[0], best, atol=1e-3), "the best anchor's box is the first region"
    assert float((box_iou(steps.moved, steps.moved) - torch.eye(len(steps.moved))).max()) <= 0.3
    assert not torch.allclose(decode(steps.anchors, torch.zeros(len(steps.anchors), 4)), steps.moved)


def test_show_writes_one_picture_more(tmp_path: Path) -> None:
    save(prepared(detector()), tmp_path / "model.safetensors")
    Image.effect_noise((60, 40), 50).convert("RGB").save(tmp_path / "one.png")
    out = tmp_path / "out"
    call_convscope("predict", tmp_path / "model.safetensors", tmp_path / "one.png", "--out", out, "--show")
    (steps,) = out.glob("*-steps.png")
    with Image.open(steps) as drawn:
        assert drawn.width > 2 * 360
        assert drawn.height > 2 * 360
        assert {(232, 179, 26)} <= {colour for _, colour in drawn.getcolors(1_000_000) or ()}, "anchors and bins"


def test_show_is_refused_by_name(tmp_path: Path) -> None:
    save(create_model("lenet5"), tmp_path / "model.safetensors")
    file = tmp_path / "model.safetensors"
    found = call_convscope("predict", file, tmp_path, "--show", code=2)
    assert "--show draws pictures: say with --out DIR where to" in found.output
    found = call_convscope("predict", file, tmp_path, "--show", "--out", tmp_path, code=2)
    assert "--show draws what a detector's boxes came from" in found.output
    assert "is a model of classification" in found.output
