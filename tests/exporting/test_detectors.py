"""Detectors as ONNX files: what ONNX Runtime makes of them is what the networks answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convscope import compress, create_model, export_onnx
from convscope.errors import ArgumentError, ExportError
from convscope.exporting import detector_file, detectors
from convscope.exporting.checking import Session
from convscope.models.catalog import MODELS
from convscope.models.fast_rcnn import FastRCNN
from convscope.models.faster_rcnn import FasterRCNN
from convscope.spec import spec_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SHAPE = (3, 64, 80)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(name: str, **options: Any) -> Any:
    """A network whose running statistics and answers are not those of a fresh one, where half of them would be 0."""
    torch.manual_seed(3)
    model = create_model(name, classes=3, **{**dict(MODELS[name].card.economical), **options})
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        elif path.endswith(("cls_logits", "bbox_pred", "cls_score")):
            nn.init.normal_(module.weight, 0, 0.1)
    return model.eval()


def given(count: int) -> tuple[Tensor, Tensor]:
    pictures = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))
    return pictures, torch.tensor([[64, 80], [50, 80], [64, 61]])[:count]


def session(path: Path) -> Session:
    opened = Session.of(path.read_bytes())
    assert isinstance(opened, Session)
    return opened


def largest(own: Tensor, answer: Tensor) -> float:
    assert own.shape == answer.shape
    return float((own - answer).abs().max() / answer.abs().max())


@pytest.mark.parametrize(
    ("name", "options"),
    [("fast_rcnn", {}), ("fast_rcnn", {"pooling": "max"}), ("fast_rcnn", {"body": "vgg11"}), ("rcnn", {"svm": True})],
)
def test_any_number_of_pictures_and_regions(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model, path = made(name, **options), tmp_path / "model.onnx"
    told = export_onnx(model, path, SHAPE)
    assert (told.inputs, told.outputs) == (("pictures", "rois"), ("scores", "differences"))
    assert told.difference is not None
    assert told.difference < 1e-5
    run = session(path)
    for count, each in ((1, 1), (3, 11), (2, 0)):
        pictures, sizes = given(count)
        rois = detectors.some_regions(pictures, each)
        found = run.run([pictures, rois])
        with torch.no_grad():
            answers = model(pictures, sizes, rois)
        assert found["scores"].shape == (count * each, 4)
        if each:
            assert largest(found["scores"], answers.scores) < 1e-5
            assert largest(found["differences"], answers.differences) < 1e-5


@pytest.mark.parametrize("pooling", ["align", "max"])
def test_a_network_that_proposes_its_regions(pooling: str, tmp_path: Path) -> None:
    """The whole way in one graph: anchors, the best of them, NMS, pooling, answers; pictures smaller than canvases."""
    model, path = made("faster_rcnn", pooling=pooling, proposals=12), tmp_path / "model.onnx"
    export_onnx(model, path, SHAPE)
    run = session(path)
    for count in (1, 3):
        pictures, sizes = given(count)
        found = run.run([pictures, sizes])
        with torch.no_grad():
            answers = model(pictures, sizes)
        assert set(found) == {"rois", "scores", "differences", "objectness", "anchor_differences", "anchors"}
        assert len(found["rois"]) > 3 * count
        for name, own in found.items():
            assert largest(own, getattr(answers, name)) < 1e-4, name


def test_where_no_region_is_left_the_picture_is_one(tmp_path: Path) -> None:
    model, path = made("faster_rcnn"), tmp_path / "model.onnx"
    with torch.no_grad():
        model.rpn.head.bbox_pred.bias.copy_(torch.tensor([0.0, 0, -20, -20]).repeat(len(model.rpn.shapes)))
    export_onnx(model, path, SHAPE)
    pictures, sizes = given(2)
    found = session(path).run([pictures, sizes])
    assert found["rois"].tolist() == [[0, 0, 0, 80, 64], [1, 0, 0, 80, 50]]
    assert largest(found["scores"], model(pictures, sizes).scores.detach()) < 1e-5


def test_pixels_a_fixed_batch_and_a_compressed_head(tmp_path: Path) -> None:
    model, path = made("faster_rcnn"), tmp_path / "model.onnx"
    small = compress(model, rank={"roi_heads.box_head.fc6": 5})
    assert isinstance(small, FasterRCNN)
    told = export_onnx(small, path, inputs=[given(2)[0]], dynamic_batch=False)
    assert told.difference is not None
    read = onnx.load(str(path))
    sides = [side.dim_value or side.dim_param for side in read.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [2, 3, 64, 80]
    assert {each.key: each.value for each in read.metadata_props}["task"] == "detection"
    described = spec_of(model)
    assert described is not None
    told = export_onnx(model, path, SHAPE, preprocessing=True) if described.preprocessing else told
    assert told.difference is not None
    metadata = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
    assert json.loads(metadata["deviations"]) == [0.1, 0.1, 0.2, 0.2]


def test_a_file_of_another_network_is_found_out() -> None:
    model, other = made("fast_rcnn"), made("fast_rcnn")
    with torch.no_grad():
        other.roi_heads.box_predictor.cls_score.weight[0, 0] += 1
    pictures = given(1)[0]
    written, _ = detector_file.written(onnx, model, pictures, True, None)
    assert detector_file.compare(model, written.SerializeToString(), pictures, (1,), None)[0] is not None
    with pytest.raises(ExportError, match=r"answers differ from the model's by .*, wanted ≤ 0.0001"):
        detector_file.compare(other, written.SerializeToString(), pictures, (1,), None)


def test_what_has_no_form_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = made("fast_rcnn")
    assert isinstance(model, FastRCNN)
    model.pyramid = (1.0, 2.0)
    with pytest.raises(ExportError, match="Fast R-CNN on several scales has no form in ONNX here"):
        export_onnx(model, path, SHAPE)
    with pytest.raises(ExportError, match="weights of torch.float64; ONNX Runtime pools regions"):
        export_onnx(made("faster_rcnn").double(), path, SHAPE)
    with pytest.raises(ArgumentError, match=r"input_shape: got \(64, 80\), wanted \(channels, height, width\)"):
        export_onnx(made("faster_rcnn"), path, (64, 80))
    assert not path.exists()
