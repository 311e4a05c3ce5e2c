"""Experiments with pixels: stages in their order, weights handed on, reports and pictures, on a few examples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.data.kinds.some import some_maps

from convscope.data import Dataset, Labelled
from convscope.data.mnist_variants import changed
from convscope.errors import ArgumentError
from convscope.experiments import EXPERIMENTS, Setting, base, camvid_fcn, run_experiment, spatial_transformer
from convscope.inspect.pictures.looks import looks_of
from convscope.models import create_model


@pytest.mark.long
def test_spatial_transformers_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 1, 28, 28), generator=chance, dtype=torch.uint8)
    labels = torch.arange(30) % 10

    def made(root: str | None, variant: str) -> Dataset:
        whole = Labelled(changed(images, variant, 0, "train"), labels, tuple(map(str, range(10))))
        return Dataset(f"mnist-{variant}", whole.select(torch.arange(16)), whole.select(torch.arange(16, 30)))

    monkeypatch.setattr(spatial_transformer, "_made", made)
    setting = Setting(tmp_path / "out", changes={"epochs": 1, "watch": False}, threads=1)  # the setting's own go first
    report = run_experiment("spatial_transformer", setting, workers=1)
    assert [row.unit for row in report.rows] == ["% error", "% error", "times"] * 2
    for name in ("looks-rts.png", "looks-cluttered.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5_000


def test_fcns_are_trained_in_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = some_maps(tmp_path)
    places = torch.arange(len(whole))
    data = Dataset("camvid", whole.select(places[:8]), whole.select(places[8:]))
    monkeypatch.setattr(base, "_loaded", lambda name, root: data)
    setting = Setting(tmp_path / "out", changes={"epochs": 1, "watch": False})
    stages = EXPERIMENTS["camvid_fcn"].stages(setting)
    assert [(stage.name, stage.after) for stage in stages] == [
        ("fcn32s", ()), ("fcn16s", ("fcn32s",)), ("fcn8s", ("fcn16s",)),
    ]  # fmt: skip
    monkeypatch.setattr(camvid_fcn, "SMALL", {"small": True, "width": 0.05})
    report = run_experiment("camvid_fcn", setting, workers=1)
    assert [row.what for row in report.rows[::2]] == [f"FCN-{stride}s, mean IoU" for stride in (32, 16, 8)]
    assert (tmp_path / "out" / "overlays.png").stat().st_size > 5_000


def test_what_is_looked_at_is_the_layers_own() -> None:
    torch.manual_seed(0)
    model = create_model("stn_lenet", input_size=42, output_size=28).train()
    x = torch.randn(3, 1, 42, 42)
    theta, passed = looks_of(model, x)
    assert torch.equal(theta, torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(3, 2, 3))
    assert passed.shape == (3, 1, 28, 28)
    assert model.training
    with pytest.raises(ArgumentError, match="model: got 'Sequential', wanted a model with a SpatialTransformer"):
        looks_of(create_model("lenet5"), x)
