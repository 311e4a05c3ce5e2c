"""``convscope export``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Call

pytest.importorskip("onnxruntime")


def test_a_trained_model_is_written_and_checked(call: Call, model: Path, tmp_path: Path) -> None:
    said = call("export", model, "-o", tmp_path / "m.onnx").stdout
    assert re.search(r"m\.onnx: \d+ nodes, input → output; ONNX Runtime's answers differ by \d\.\de-0\d at most", said)
    assert (tmp_path / "m.onnx").stat().st_size > 200_000


def test_scaling_in_the_graph_and_a_fixed_batch_as_json(call: Call, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "fixed.onnx"
    said = json.loads(call("export", model, "--output", out, "--preprocessing", "--batch", "2", "--json").stdout)
    assert said["inputs"] == ["pixels"]
    assert said["difference"] <= 1e-4
    assert said["path"] == str(out)


def test_what_cannot_be_is_said(call: Call, model: Path, tmp_path: Path) -> None:
    assert "one output file, please" in call("export", model, "-o", "a.onnx", "--output", "b.onnx", code=2).output
    missing = call("export", model, "-o", tmp_path / "no" / "m.onnx", code=2)
    assert "wanted a file in a folder that is there" in missing.output
