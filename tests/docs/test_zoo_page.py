"""The page of the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from docs.pages import zoo as report

from convscope.errors import DataError
from convscope.models import MODELS


def test_page_has_a_row_for_every_model(tmp_path: Path) -> None:
    output = tmp_path / "docs" / "zoo.md"
    report.main(["--output", str(output)])
    text = output.read_text(encoding="utf-8")
    for name in MODELS:
        assert f"| `{name}` | {MODELS[name].card.year} |" in text
        assert f"| {MODELS[name].card.parameters:,} |" in text
    assert "(card:" not in text  # a count that differs from the card's shows
    assert "depthwise separable" in text
    assert not list(output.parent.glob("*.part"))


def test_the_page_in_docs_is_up_to_date() -> None:
    written = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text(encoding="utf-8")
    stale = [line for line in report.page([]).splitlines() if line not in written.splitlines()]
    assert not stale, "run python -m docs.pages.zoo --reference tests/models/torchvision.json"


def test_parity_table_compares(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = MODELS["squeezenet1_0"].create(1000, 3, {})
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    content = {
        "squeezenet1_0": {
            "parameters": 1_248_424,
            "input": [1, 3, 64, 64],
            "state_dict": shapes,
            "logits": [[1.0, 2.0]],
            "logits_norm": 1.0,
        }
    }
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    reference = report.read_reference(path)["squeezenet1_0"]
    compared = report.compare("squeezenet1_0", reference)
    assert compared.keys_agree
    assert compared.parameters == 1_248_424
    assert compared.logits_error > 1e-3  # these logits are invented
    own = report.page([("squeezenet1_0", reference)])
    assert "| `squeezenet1_0` | 3×64×64 | 1,248,424 | 1,248,424 | 52, equal |" in own


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text('{"resnet18": 3}', encoding="utf-8")
    with pytest.raises(DataError, match="not a reference file"):
        report.read_reference(path)
