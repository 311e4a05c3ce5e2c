"""Faster R-CNN's two halves in turn: one body for both at the end, as it was learned; a job that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.tasks.detection.test_detection import _annotation, detector, prepared, squares

from convscope import load
from convscope.data import Dataset
from convscope.errors import ArgumentError, UnknownNameError
from convscope.models.faster_rcnn import FasterRCNN
from convscope.spec import spec_of
from convscope.tasks.detection.faster_rcnn_4step import STEPS, regions_of, with_regions_of
from convscope.tasks.detection.proposed import Proposed
from convscope.tasks.detection.task import DetectionTask
from convscope.tasks.jobs import Asked, run_training_job
from convscope.tasks.stages import JobEvent
from convscope.tasks.stages.events import StageLoaded, StageStarted
from convscope.training import Config


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def cells(folder: Path, count: int = 8) -> Path:
    """Pictures of 40×48 with a bright square each, as a folder of Pascal VOC."""
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True)
    for place in range(count):
        x, y = 2 + 3 * (place % 8), 2 + 2 * (place % 7)
        picture = Image.new("RGB", (48, 40), (90, 90, 90))
        picture.paste((230, 230, 230), (x, y, x + 18, y + 18))
        picture.save(folder / "JPEGImages" / f"{place}.jpg")
        (folder / "Annotations" / f"{place}.xml").write_text(
            _annotation(f"{place}.jpg", [("square", (x + 1, y + 1, x + 18, y + 18))])
        )
    return folder


def asked(folder: Path, **changes: Any) -> Asked:
    return Asked(
        data=str(folder), data_options={"test_fraction": 0.25}, threads=1, engine="torch",
        settings={"epochs": 1, "shorter": 40, "longest": 64, "anchor_sizes": "16,24", "pictures": False},
        changes={"batch_size": 3, "max_steps": 2, "device": "cpu", **changes},
    )  # fmt: skip


@pytest.mark.long
def test_the_job_shares_one_body_and_goes_on(tmp_path: Path) -> None:
    seen: list[JobEvent] = []

    def stop(event: JobEvent) -> None:
        if isinstance(event, StageStarted) and event.stage.endswith("3-proposals"):
            raise KeyboardInterrupt

    request = asked(cells(tmp_path / "cells"))
    with pytest.raises(KeyboardInterrupt):
        run_training_job("faster_rcnn_4step", request, tmp_path / "run", workers=1, listeners=[stop])
    finished = run_training_job("faster_rcnn_4step", request, tmp_path / "run", workers=1, listeners=[seen.append])
    assert [event.stage for event in seen if isinstance(event, StageLoaded)] == ["steps/1-proposals", "steps/2-regions"]
    assert 0 <= finished.figures["mean_ap"] <= 1
    state = {
        step.name: load(tmp_path / "run" / "steps" / step.name / "model.safetensors").state_dict() for step in STEPS
    }
    whole = load(finished.model)
    assert isinstance(whole, FasterRCNN)
    assert whole.learned is None
    assert "learned" not in spec_of(whole).options  # type: ignore[union-attr]
    second, third, fourth = (state[step.name] for step in STEPS[1:])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fourth[name])
        if name.startswith("backbone."):
            assert torch.equal(value, second[name]), "held since the second step, running statistics too"
        elif name.startswith("rpn."):
            assert torch.equal(value, third[name])
    assert any(not torch.equal(fourth[name], second[name]) for name in second if name.startswith("roi_heads."))
    first = state[STEPS[0].name]
    assert any(not torch.equal(first[name], second[name]) for name in second if name.startswith("backbone."))


def test_regions_come_in_a_pictures_own_pixels() -> None:
    model = prepared(detector(proposals=20))
    assert isinstance(model, FasterRCNN)
    few = squares(3)
    rows = regions_of(model, few)
    (alone,) = regions_of(model, few.select(torch.tensor([1])))
    assert len(rows) == 3
    assert torch.allclose(rows[1], alone, atol=1e-3)
    for row in rows:
        assert 0 < len(row) <= 20
        assert (row >= 0).all()
        assert (row.amax(0) <= torch.tensor([72.0, 64, 72, 64]) + 1e-3).all()


def test_regions_that_are_given_are_kept() -> None:
    model = prepared(detector(proposals=6))
    assert isinstance(model, FasterRCNN)
    data = with_regions_of(model, Dataset("squares", squares(3), squares(2)))
    ready = DetectionTask({"shorter": 64, "longest": 96}).prepare(detector("fast_rcnn"), data, Config())
    assert isinstance(ready.train, Proposed)
    assert torch.equal(ready.train.regions.values, data.train.regions.values)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="learned: got 'proposal'.*Did you mean 'proposals'"):
        detector(learned="proposal")
    for settings, said in (({"epochs": -1}, "epochs: got -1"), ({"anchor_sizes": "a"}, "anchor_sizes: got 'a'")):
        with pytest.raises(ArgumentError, match=said):
            run_training_job("faster_rcnn_4step", Asked(data="bccd", settings=settings), tmp_path / "none")
