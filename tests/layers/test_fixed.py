"""Classic kernels as a frozen first layer: what they compute, and that training leaves them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import convscope
from convscope import filter_picture, kernels
from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers import fixed_filters


@pytest.mark.parametrize("channels", [1, 3])
def test_every_map_is_the_filtered_picture(channels: int) -> None:
    names = ["sobel_x", "gaussian", "laplacian"]
    layer = fixed_filters(names, channels, size=5, sigma=1.2)
    x = torch.rand(2, channels, 17, 13)
    y = layer(x)
    assert y.shape == (2, 3 * channels, 17, 13)
    for channel in range(channels):
        for place, name in enumerate(names):
            options: dict[str, Any] = {"size": 5, "sigma": 1.2} if name == "gaussian" else {}
            wanted = filter_picture(x[1, channel].numpy(), name, padding="zeros", **options)
            numpy.testing.assert_allclose(y[1, 3 * channel + place].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("engine", ["rules", "torch", "auto"])
def test_training_and_files_leave_it_alone(engine: str, tmp_path: Path) -> None:
    fixed = fixed_filters(["sobel_x", "sobel_y"])
    before = fixed.weight.clone()
    net = nn.Sequential(fixed, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10))
    result = convscope.fit(
        net, "digits", epochs=1, max_steps=4, engine=engine, run_dir=str(tmp_path / "run"), watch=False
    )
    assert torch.equal(result.model.get_parameter("0.weight"), before)
    loaded = convscope.load(tmp_path / "run" / "model.safetensors")
    assert torch.equal(loaded.get_parameter("0.weight"), before)


def test_what_cannot_be_a_layer_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="kernel: got 'sobl_x'.*Did you mean 'sobel_x'"):
        fixed_filters(["sobl_x"])
    with pytest.raises(ArgumentError, match="kernel: got 'median', wanted a filter with one kernel"):
        fixed_filters(["median"])
    with pytest.raises(UnknownNameError, match="option of sobel_x: got 'sigma'"):
        fixed_filters(["sobel_x"], sigma=2.0)
    with pytest.raises(ArgumentError, match="in_channels"):
        fixed_filters(["sobel_x"], 0)
    nothing: list[str] = []
    for names in (nothing, "box"):
        with pytest.raises(ArgumentError, match="names: got .*wanted a list of kernels"):
            fixed_filters(names)


def test_smaller_kernels_stand_in_the_middle() -> None:
    weight = fixed_filters(["sobel_x", "box"], size=7).weight
    assert weight.shape == (2, 1, 7, 7)
    numpy.testing.assert_allclose(weight[0, 0, 2:5, 2:5].numpy(), kernels.kernel("sobel_x"))
    assert weight[0].abs().sum() == 8
