"""Autoencoders trained, kept and used; layers trained one on the other, and what of that is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope import spec
from convscope.data import Dataset, load_dataset
from convscope.errors import ArgumentError
from convscope.models import create_model, spec_of
from convscope.tasks.autoencoding.pictures import best_inputs
from convscope.tasks.autoencoding.task import Autoencoding
from convscope.tasks.jobs import JOBS, Asked, run_training_job

ROOT = Path(__file__).parents[3]
STACK: dict[str, Any] = {
    "data": "digits",
    "settings": {"units": "12,9", "layer_epochs": 1, "top_epochs": 1, "fine_epochs": 1, "pictures": False},
    "changes": {"max_steps": 4, "watch": False},
    "threads": 1,
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_dataset("digits")
    return Dataset("digits", data.train.select(torch.arange(400)), data.test.select(torch.arange(50)))


@pytest.fixture(scope="module")
def coder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    torch.manual_seed(0)
    model = create_model("sparse_autoencoder", units=24, input_size=8)
    convscope.fit(
        model, digits, settings={"rho": 0.1, "beta": 0.05}, epochs=60, batch_size=50, learning_rate=0.01, watch=False,
        run_dir=str(tmp_path_factory.mktemp("coder") / "run"), engine="torch", threads=1,
    )  # fmt: skip
    return model


def test_it_learns_a_sparse_code(coder: nn.Module, digits: Dataset) -> None:
    figures = convscope.evaluate(coder, digits)
    pixels = digits.test.images.float().flatten(1) / 255
    mean = (digits.train.images.float().flatten(1) / 255).mean(0)
    known = float((pixels - mean).square().sum(1).mean() / 2)  # what the mean picture loses
    assert figures.error < 0.75 * known
    dense = create_model("sparse_autoencoder", units=24, input_size=8)
    assert figures.activation < 0.6 * convscope.evaluate(_like(dense, coder), digits).activation
    assert figures.loss == pytest.approx(figures.error + 0.05 * figures.divergence)


def _like(model: nn.Module, other: nn.Module) -> nn.Module:
    described = spec_of(other)
    assert described is not None
    return spec.attach(model, described)


def test_its_file_knows_its_settings(coder: nn.Module, digits: Dataset, tmp_path: Path) -> None:
    again = convscope.load(convscope.save(coder, tmp_path / "model.safetensors"))
    assert convscope.evaluate(again, digits).to_json() == convscope.evaluate(coder, digits).to_json()
    described = spec_of(again)
    assert described is not None
    assert described.answers.more == {"rho": 0.1, "beta": 0.05}


def test_predict_makes_pictures_again(coder: nn.Module, digits: Dataset, tmp_path: Path) -> None:
    answers = convscope.predict(coder, digits.test.images[:3])
    assert [each.units for each in answers] == [24, 24, 24]
    for each, original in zip(answers, digits.test.images, strict=False):
        assert torch.equal(each.original, original)
        error = (each.picture.float() - original.float()).div(255).square().sum() / 2
        assert each.error == pytest.approx(float(error), rel=0.05)
    (written,) = answers[0].save(tmp_path)
    with Image.open(written) as picture:
        assert picture.size == (8 + 2 + 8, 8)


def test_the_best_inputs_are_the_weights(coder: nn.Module) -> None:
    found = best_inputs(coder)
    assert found is not None
    assert found.shape == (24, 1, 8, 8)
    weight = coder.get_parameter("encoder.weight")
    assert torch.allclose((found.flatten(1) * weight.detach()).sum(1), weight.detach().norm(dim=1), rtol=1e-5)
    assert best_inputs(create_model("lenet5")) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rho": 0.0}, "rho: got 0.0, wanted a mean activation"), ({"beta": -1.0}, "beta: got -1.0, wanted a weight ≥ 0")],
)
def test_wrong_settings_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Autoencoding(settings)


def test_what_is_no_autoencoder_is_refused(digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options: dict[str, Any] = {"task": "autoencoding", "run_dir": str(tmp_path / "run"), "max_steps": 1}
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 64))
    with pytest.raises(ArgumentError, match="model: got 'Tensor', wanted three outputs"):
        convscope.fit(plain, digits, **options)
    with pytest.raises(ArgumentError, match="loss: got 'hinge', wanted nothing"):
        Autoencoding().objective(plain, "hinge")
    with pytest.raises(ArgumentError, match="units"):
        create_model("stacked_autoencoder", units="many")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="WORLD_SIZE: got '2', wanted one process"):
        Autoencoding().prepare(create_model("sparse_autoencoder", input_size=8), digits, convscope.training.Config())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "run"
    run_training_job("stacked_autoencoder", Asked(**STACK), folder, workers=1)
    return folder


def test_each_layer_learns_from_the_one_below(stack: Path) -> None:
    layers = [convscope.load(stack / f"layer{place}" / "model.safetensors") for place in (1, 2)]
    softmax, fine = (convscope.load(stack / name / "model.safetensors") for name in ("softmax", "fine"))
    first, second = (each.get_parameter("encoder.weight") for each in layers)
    assert torch.equal(layers[1].get_parameter("below.encoder1.weight"), first)  # as it was
    assert torch.equal(softmax.get_parameter("encoder1.weight"), first)
    assert torch.equal(softmax.get_parameter("encoder2.weight"), second)
    assert not torch.equal(fine.get_parameter("encoder1.weight"), first)
    whole = convscope.load(stack / "model.safetensors")
    assert all(torch.equal(value, fine.state_dict()[name]) for name, value in whole.state_dict().items())
    accuracy = json.loads((stack / "fine" / "metrics.json").read_text())["accuracy"]
    assert convscope.evaluate(whole, "digits").accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("units", ["12,x", "", "12,0"])
def test_wrong_units_are_refused(units: str) -> None:
    with pytest.raises(ArgumentError, match="units: got .*, wanted numbers of units"):
        JOBS["stacked_autoencoder"](Asked("digits", settings={"units": units}))


@pytest.mark.long
def test_killed_at_ten_points_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    asked = {**STACK, "changes": {**STACK["changes"], "checkpoint_batches": 2}}
    name, environment = "stacked_autoencoder", {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.tasks.killing_jobs", str(tmp_path), name, json.dumps(asked), "10"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert found["files"] > 6
    for each in found["tries"]:
        assert each["first"] == -signal.SIGKILL, each
        assert (each["second"], each["differing"]) == (0, []), each
