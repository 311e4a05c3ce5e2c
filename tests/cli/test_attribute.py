"""``convscope attribute``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tests.cli.conftest import Call

from convscope.data import prepare
from convscope.data.pictures import load_picture
from convscope.inspect import receptive_field
from convscope.inspect.attribution import METHODS, attribute
from convscope.models.modelfile import load
from convscope.spec import spec_of


def test_list(call: Call) -> None:
    text = call("attribute", "--list").output
    for name in METHODS:
        assert f"\n{name} " in f"\n{text}"
        assert METHODS[name].title in text


def test_maps_figures_and_checks(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    picture = next(iter(sorted(pictures.rglob("*.png"))))
    out = tmp_path / "maps"
    ran = call(
        "attribute", model, picture, "-m", "gradient", "-m", "grad_cam", "--layer", "c3", "-t", "2", "--out", out
    )
    assert {path.name for path in out.iterdir()} == {
        "gradient.png", "gradient.npy", "grad_cam.png", "grad_cam.npy", "attributions.json",
    }  # fmt: skip
    figures = json.loads((out / "attributions.json").read_text(encoding="utf-8"))["methods"]
    assert set(figures) == {"gradient", "grad_cam"}
    assert 0 < figures["gradient"]["deletion"] <= 1
    assert list(figures["gradient"]["agreement_with_random_weights"]) == ["output", "f6", "f5", "c3", "c1"]
    assert figures["grad_cam"]["completeness_gap"] is None
    assert "agreement with random weights" in ran.output
    network = load(model)
    described = spec_of(network)
    assert described is not None
    assert described.preprocessing is not None
    x = described.preprocessing.normalise(prepare(load_picture(picture)[None], described.preprocessing))
    for method, layer in (("gradient", None), ("grad_cam", "c3")):
        expected = attribute(network, x, 2, method, layer)[0].numpy()
        np.testing.assert_allclose(np.load(out / f"{method}.npy"), expected, rtol=1e-5, atol=1e-7)


def test_places_options_and_no_checks(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    picture = next(iter(sorted(pictures.rglob("*.png"))))
    out = tmp_path / "maps"
    arguments = ("-m", "integrated_gradients", "-t", "c3[2, 1:3, 4]", "--set", "steps=4", "--no-checks", "--out", out)
    call("attribute", model, picture, *arguments)
    found = torch.from_numpy(np.load(out / "integrated_gradients.npy"))
    assert float(found.abs().sum()) > 0
    boxes = [receptive_field(load(model), "c3", position=(row, 4)).box for row in (1, 2)]
    rows, columns = slice(boxes[0][0][0], boxes[1][0][1]), slice(*boxes[0][1])
    assert found[0, rows, columns].any()
    found[0, rows, columns] = 0
    assert not found.any()
    assert json.loads((out / "attributions.json").read_text(encoding="utf-8"))["methods"] == {
        "integrated_gradients": {}
    }


def test_mistakes(error: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    picture = next(iter(sorted(pictures.rglob("*.png"))))
    assert "Did you mean 'grad_cam'" in error("attribute", model, picture, "-m", "gradcam").stderr
    assert "target: got 'eleven'" in error("attribute", model, picture, "-t", "eleven").stderr
    assert (
        "option of gradient: got 'step'"
        in error("attribute", model, picture, "-m", "gradient", "--set", "step=3").stderr
    )
    assert (
        "method: got 'class_activation_map'"
        in error("attribute", model, picture, "-m", "class_activation_map", "--out", tmp_path).stderr
    )
