"""Pictures that a unit likes: made by climbing, found among a data set's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope.data import Dataset, Labelled
from convscope.errors import ArgumentError, UnknownNameError
from convscope.inspect.attribution import StoppedError
from convscope.spec import ModelSpec, Preprocessing, attach

PIXELS = Preprocessing(1, (16, 16), (0.5,), (0.5,))


def edge_detector() -> Any:
    """Map 1 likes bright above dark; two poolings behind it."""
    model: Any = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 2)
    )
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()
        model[0].weight[1, 0] = torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]])
    return attach(model.eval(), ModelSpec("graph", {}, (1, 16, 16), ("a", "b"), PIXELS))


def test_maximise_climbs_at_least_tenfold() -> None:
    found = convscope.maximise(edge_detector(), "1", 1, steps=40)
    assert found.x.shape == (1, 1, 16, 16)
    assert (found.pixels.shape, found.pixels.dtype) == ((1, 16, 16), torch.uint8)
    assert found.history[-1] > 10 * abs(found.history[0])
    assert float(found.x.abs().max()) <= 1  # pixels stay pixels
    again = convscope.maximise(edge_detector(), "1", 1, steps=40)
    assert torch.equal(again.x, found.x)


def test_one_unit_wants_what_it_sees() -> None:
    """A single unit sees 3×3 pixels: the row above bright, the row below dark, all other pixels drawn to 0."""
    found = convscope.maximise(edge_detector(), "0", (1, 8, 8), steps=60, jitter=0, smooth=0.0)
    x = found.x[0, 0]
    assert float(x[7, 7:10].min()) > 0.8
    assert float(x[9, 7:10].max()) < -0.8
    outside = x.clone()
    outside[7:10, 7:10] = 0
    assert float(outside.abs().max()) < 0.05


def test_a_dead_unit_ends_it() -> None:
    model = edge_detector()
    found = convscope.maximise(model, "1", 0, steps=5)
    assert found.history == (0.0, 0.0)


def test_maximise_refuses() -> None:
    with pytest.raises(ArgumentError, match="steps: got 0"):
        convscope.maximise(edge_detector(), "0", 1, steps=0)
    with pytest.raises(UnknownNameError, match="layer: got 'conv'"):
        convscope.maximise(edge_detector(), "conv", 1)
    with pytest.raises(ArgumentError, match=r"target: got '0\[7\]'"):
        convscope.maximise(edge_detector(), "0", 7)
    with pytest.raises(StoppedError, match="cancelled"):
        convscope.maximise(edge_detector(), "0", 1, stopped=lambda: True)


def planted() -> tuple[Dataset[Labelled], Tensor]:
    """Faint noise; picture 5 has the edge at row 6, columns 8 to 10, picture 2 half as strong at row 12."""
    images = torch.randint(100, 110, (9, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for index, row, column, bright, dark in ((5, 6, 8, 255, 0), (2, 12, 3, 180, 50)):
        images[index, 0, row - 1, column : column + 3] = bright
        images[index, 0, row + 1, column : column + 3] = dark
    part = Labelled(images, torch.zeros(9, dtype=torch.int64), ("a", "b"))
    return Dataset("planted", part, part), images


@pytest.mark.parametrize("layer", ["0", "1"])
def test_the_planted_picture_comes_first_with_the_right_crop(layer: str) -> None:
    data, images = planted()
    found = convscope.top_examples(edge_detector(), data, layer, 1, k=3, batch_size=4)
    assert [each.index for each in found[:2]] == [5, 2]
    assert found[0].position == (6, 9)
    assert found[0].box == ((5, 8), (8, 11))
    assert torch.equal(found[0].crop, images[5, :, 5:8, 8:11])
    assert found[0].value > found[1].value > found[2].value
    assert torch.equal(convscope.top_examples(edge_detector(), images, layer, 1, k=1)[0].crop, found[0].crop)


def test_deep_units_and_outputs() -> None:
    data, images = planted()
    model = edge_detector()
    pooled = convscope.top_examples(model, data, "2", 1, k=1)[0]
    assert pooled.index == 5
    rows, _ = pooled.box
    assert rows[0] <= 5
    assert rows[1] >= 8
    whole = convscope.top_examples(model, data, "4", 0, k=9)
    with torch.no_grad():
        scores = model(PIXELS.normalise(images))[:, 0]
    assert [each.index for each in whole] == scores.argsort(descending=True).tolist()
    assert whole[0].position == ()
    assert torch.equal(whole[0].crop, images[whole[0].index])


def test_examples_refuse() -> None:
    data, _ = planted()
    model = edge_detector()
    with pytest.raises(UnknownNameError, match="layer: got 'conv'"):
        convscope.top_examples(model, data, "conv", 0)
    with pytest.raises(ArgumentError, match="unit: got 2, wanted a map of 0, 0…1"):
        convscope.top_examples(model, data, "0", 2)
    with pytest.raises(ArgumentError, match="k: got 0"):
        convscope.top_examples(model, data, "0", 0, 0)
    with pytest.raises(ArgumentError, match="split: got 'validation'"):
        convscope.top_examples(model, data, "0", 0, split="validation")
    with pytest.raises(StoppedError, match="cancelled"):
        convscope.top_examples(model, data, "0", 0, stopped=lambda: True)
