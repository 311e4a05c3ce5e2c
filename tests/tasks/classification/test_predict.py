"""Predictions against the network asked directly, probabilities by every kind of output, refusals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.cells import cell_len
from torch import nn

from convscope import create_model, spec
from convscope.errors import ArgumentError, CheckpointError, DataError
from convscope.spec import Preprocessing, attach, spec_of
from convscope.tasks import predict
from convscope.tasks.classification.metrics import Metrics
from convscope.tasks.classification.report import report
from convscope.training import save

CLASSES = tuple("abcdefghij")


def prepared(name: str) -> nn.Module:
    model = create_model(name)
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    preprocessing = Preprocessing(channels, (height, width), (0.4,) * channels, (0.3,) * channels)
    return attach(model, described.replace(classes=CLASSES, preprocessing=preprocessing))


def pixels(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def test_predictions_are_the_networks_own() -> None:
    model = prepared("lenet5")
    images = pixels(9, 1, 28, 28)
    described = spec.spec_of(model)
    assert described is not None
    assert described.preprocessing is not None
    with torch.no_grad():
        shares = model.eval()(described.preprocessing.normalise(images)).double().softmax(1)
    model.train()
    found = predict(model, images, batch_size=4)
    assert model.training
    assert [item.source for item in found] == [str(index) for index in range(9)]
    for item, row in zip(found, shares, strict=True):
        assert item.probabilities == pytest.approx(row.tolist(), abs=1e-7)  # batches of 4 and of 9 round differently
        assert item.label == CLASSES[int(row.argmax())]
        assert item.top(3) == sorted(zip(CLASSES, item.probabilities, strict=True), key=lambda pair: -pair[1])[:3]


def test_all_ways_to_give_a_picture_agree(tmp_path: Path) -> None:
    model = prepared("slides_cifar10")
    image = pixels(1, 3, 32, 32)[0]
    array = image.permute(1, 2, 0).numpy()
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    Image.fromarray(array).save(tmp_path / "in" / "deeper" / "a.png")
    given = [
        image, image[None], array, array[None], Image.fromarray(array), tmp_path / "in", str(tmp_path / "in"),
        tmp_path / "in" / "deeper" / "a.png",
    ]  # fmt: skip
    found = predict(model, given)
    assert len(found) == len(given)
    assert all(item.probabilities == pytest.approx(found[0].probabilities, abs=1e-6) for item in found)
    assert [item.source for item in found[:5]] == ["0", "1", "2", "3", "4"]
    assert found[5].source == str(tmp_path / "in" / "deeper" / "a.png")


def test_grey_colour_alpha_and_size_are_brought_to_the_models(tmp_path: Path) -> None:
    model = prepared("lenet5")
    grey = pixels(1, 1, 28, 28)[0, 0].numpy()
    colour = Image.fromarray(np.stack([grey] * 3, axis=-1))
    opaque = colour.convert("RGBA")
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    found = predict(model, [grey, colour, opaque, deep, Image.fromarray(grey).convert("P")])
    assert all(item.probabilities == pytest.approx(found[0].probabilities, abs=1e-6) for item in found)
    assert len(predict(model, Image.fromarray(grey).resize((300, 123)))) == 1


def test_a_saved_model_can_be_named(tmp_path: Path) -> None:
    model = prepared("lenet5")
    path = save(model, tmp_path / "model.safetensors")
    images = pixels(2, 1, 28, 28)
    assert predict(path, images) == predict(model, images)


class Fixed(nn.Module):
    """Outputs that do not depend on the picture, then a last layer."""

    def __init__(self, outputs: list[float], last: nn.Module) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor(outputs))
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.outputs.expand(len(x), -1))
        return result


@pytest.mark.parametrize(
    ("last", "wanted"),
    [
        (nn.Identity(), [1 / (1 + math.e + math.e**2), math.e / (1 + math.e + math.e**2)]),
        (nn.Softmax(1), [1 / (1 + math.e + math.e**2), math.e / (1 + math.e + math.e**2)]),
        (nn.LogSoftmax(1), [1 / (1 + math.e + math.e**2), math.e / (1 + math.e + math.e**2)]),
        (nn.Sigmoid(), [0.5 / 2.1118556, 0.7310586 / 2.1118556]),
        (nn.Tanh(), [0.5 / 2.3628108, 0.8807971 / 2.3628108]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_probabilities_by_hand(last: nn.Module, wanted: list[float]) -> None:
    """Outputs 0, 1, 2: softmax; a sigmoid's 0.5, 0.731, 0.881 and a tanh's 0, 0.762, 0.964 shared out."""
    model = Fixed([0.0, 1.0, 2.0], last)
    found = predict(model, pixels(1, 1, 4, 4), preprocessing=Preprocessing(1, (4, 4), (0.5,), (0.5,)))[0]
    assert found.probabilities[:2] == pytest.approx(wanted, rel=1e-6)
    assert sum(found.probabilities) == pytest.approx(1)
    assert found.label == "2"  # a model without class names numbers them


def test_rbf_probabilities_fall_with_the_distance() -> None:
    model = prepared("lenet5_1998").eval()
    images = pixels(1, 1, 32, 32)
    described = spec_of(model)
    assert described is not None
    assert described.preprocessing is not None
    with torch.no_grad():
        distances = model(described.preprocessing.normalise(images)).double()[0]
    found = predict(model, images)[0]
    assert found.label == CLASSES[int(distances.argmin())]
    ratio = found.probabilities[1] / found.probabilities[0]
    assert math.log(ratio) == pytest.approx(float(distances[0] - distances[1]), rel=1e-6)


def test_what_cannot_be_predicted(tmp_path: Path) -> None:
    model = prepared("lenet5")
    with pytest.raises(DataError, match=r"nowhere\.png: no such file"):
        predict(model, tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="a folder without pictures"):
        predict(model, tmp_path)
    with pytest.raises(ArgumentError, match=r"images: got \[\], wanted at least one picture"):
        predict(model, [])
    with pytest.raises(ArgumentError, match="images: got 'int', wanted paths, uint8 arrays"):
        predict(model, 3)
    with pytest.raises(ArgumentError, match="images: got .float32.* wanted uint8 pixels"):
        predict(model, torch.rand(2, 1, 28, 28))
    with pytest.raises(ArgumentError, match="preprocessing: got None"):
        predict(nn.Linear(2, 2), pixels(1, 1, 4, 4))
    with pytest.raises(CheckpointError, match="no such file"):
        predict(tmp_path / "model.safetensors", pixels(1, 1, 4, 4))


def test_the_report_adds_up() -> None:
    confusion = ((8, 2, 0), (0, 5, 0), (0, 0, 0))
    metrics = Metrics(15, 0.5, 13 / 15, 2 / 15, 1.0, 0.9, (0.8, 1.0, float("nan")), confusion, ("cat", "dog", "newt"))
    lines = report(metrics).splitlines()
    assert "error                13.33%" in lines
    assert ["cat", "80.00%", "10", "2"] in [line.split() for line in lines]
    assert ["newt", "–", "0", "0"] in [line.split() for line in lines]
    assert "     2 × cat taken for dog" in lines
    assert [line.split() for line in lines[-4:]] == [
        ["cat", "dog", "newt"], ["cat", "8", "2", "·"], ["dog", "·", "5", "·"], ["newt", "·", "·", "·"],
    ]  # fmt: skip


def test_the_report_lines_up_for_wide_and_hostile_names() -> None:
    confusion = ((8, 2, 0), (1, 5, 0), (0, 0, 3))
    names = ("猫", "dog", "new\nt\x1b[2J")
    lines = report(Metrics(19, 0.5, 16 / 19, 3 / 19, 1.0, 0.9, (0.8, 5 / 6, 1.0), confusion, names)).splitlines()
    table = lines[7:11]
    assert len({cell_len(line) for line in table}) == 1
    assert "new␊t␛[2J" in table[3]
    assert len({cell_len(line) for line in lines[-4:]}) == 1
    assert not any("\x1b" in line for line in lines)


def test_outputs_that_are_no_numbers_are_refused() -> None:
    model = prepared("lenet5")
    with torch.no_grad():
        model.get_parameter("output.bias")[3] = float("nan")
    with pytest.raises(ArgumentError, match="outputs that are no numbers.*First seen for picture 0; "):
        predict(model, pixels(2, 1, 28, 28))


def test_folders_are_searched_as_training_does(tmp_path: Path) -> None:
    for name in ("a/1.png", ".ipynb_checkpoints/2.png", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (28, 28)).save(tmp_path / name)
    assert [Path(found.source).name for found in predict(prepared("lenet5"), tmp_path)] == ["1.png"]
