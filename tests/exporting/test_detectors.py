"""Detectors are refused as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope import create_model, export_onnx
from convscope.errors import ExportError
from convscope.models.catalog import MODELS


@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn"])
def test_a_detector_is_refused_by_name(name: str, tmp_path: Path) -> None:
    model = create_model(name, **dict(MODELS[name].card.economical))
    with pytest.raises(ExportError, match="a detector proposes regions, as many as it finds"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
