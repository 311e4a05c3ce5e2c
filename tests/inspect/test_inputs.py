"""One function says what a model that is looked into takes; the command line and the explorer ask it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import convscope
from convscope.cli.main import group
from convscope.data import Dataset, Labelled
from convscope.errors import ArgumentError
from convscope.explorer.session import Session
from convscope.inspect.inputs import input_of
from convscope.spec import ModelSpec, Preprocessing, attach


def net(channels: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()


def described(model: nn.Module, preprocessing: Preprocessing | None) -> nn.Module:
    from convscope.models import portable

    return attach(
        model,
        ModelSpec("graph", portable.describe(model, [torch.rand(2, 1, 8, 8)]), (1, 8, 8), ("no", "yes"), preprocessing),
    )


def pictures(channels: int = 1) -> Dataset[Labelled]:
    images = torch.randint(0, 256, (6, channels, 8, 8), dtype=torch.uint8)
    part = Labelled(images, torch.arange(6) % 2, ("no", "yes"))
    return Dataset("noise", part, part)


def test_the_model_s_own_word_counts_most() -> None:
    own = Preprocessing(1, (8, 8), (0.3,), (0.7,))
    found = input_of(described(net(), own), pictures())
    assert (found.shape, found.preprocessing, found.known_from, found.note) == ((1, 8, 8), own, "model", "")


def test_then_the_data_s() -> None:
    data = pictures()
    found = input_of(described(net(), None), data)
    assert (found.preprocessing, found.known_from) == (data.preprocessing((8, 8), 1), "data")
    assert "data set's mean and deviation" in found.note
    assert input_of(net(), data).shape == (1, 8, 8)
    assert input_of(net(3), data, (3, 8, 8)).preprocessing.channels == 3  # grey pictures shown to a colour network
    assert input_of(net(2), data, (2, 8, 8)).known_from == "nothing"  # no way from one channel to two


def test_else_pixels_go_in_as_0_to_1() -> None:
    found = input_of(net(), input_shape=(1, 8, 8))
    assert found.known_from == "nothing"
    assert "pixel / 255 is assumed" in found.note
    assert found.preprocessing.normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).flatten().tolist() == [0, 1]


def test_rows_and_single_maps_are_drawn_as_pictures() -> None:
    assert input_of(nn.Linear(5, 2), input_shape=(5,)).picture_shape == (1, 1, 5)
    with pytest.raises(ArgumentError, match="input_shape: got .*, wanted at most \\(channels, height, width\\)"):
        input_of(nn.Conv3d(1, 1, 2), input_shape=(1, 4, 4, 4))
    with pytest.raises(ArgumentError, match="input_shape: got None, wanted \\(channels, height, width\\)"):
        input_of(net())


def test_inspect_and_explore_show_the_same_input(tmp_path: Path) -> None:
    """A model whose file says nothing of its pictures: both take pixel / 255, and both say so."""
    model = described(net(), None)
    convscope.save(model, tmp_path / "model.safetensors")
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(grey).save(tmp_path / "picture.png")
    model_file, picture_file = str(tmp_path / "model.safetensors"), str(tmp_path / "picture.png")
    ran = CliRunner().invoke(group, ["inspect", model_file, "--image", picture_file, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert "pixel / 255 is assumed" in ran.stderr
    session = Session(model)
    session.load_upload((tmp_path / "picture.png").read_bytes(), "image/png")
    assert session.desk.known_from == "nothing"
    expected = torch.from_numpy(grey).float()[None, None] / 255
    torch.testing.assert_close(session.snapshot.question.x, expected)


def test_a_shape_given_to_explore() -> None:
    session = Session(net(), input_shape=(1, 8, 8))
    assert session.network.input_shape == (1, 8, 8)
