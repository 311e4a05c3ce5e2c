"""Segmentation: large pictures in parts, answers as files, class balance, data and models that do not fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from tests.tasks.segmentation.example import example
from torch import Tensor, nn

from convscope import evaluate, fit, load, load_dataset, predict, save
from convscope.data import Dataset
from convscope.data.kinds.maps import Maps
from convscope.data.picture_stores import PicturesInMemory
from convscope.errors import ArgumentError, UnknownNameError
from convscope.models import create_model, spec_of
from convscope.models.fcn import FCN
from convscope.tasks.segmentation import predict as predicting
from convscope.tasks.segmentation.drawing import palette_for
from convscope.tasks.segmentation.preparing import class_weights
from convscope.tasks.segmentation.tiles import in_parts, parts


def network(name: str = "fcn8s") -> FCN:
    torch.manual_seed(0)
    model = create_model(name, small=True, width=0.03, classes=4).double().eval()
    assert isinstance(model, FCN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
def test_parts_of_a_picture_are_answered_as_the_whole(name: str) -> None:
    model = network(name)
    pixels = torch.randint(0, 256, (3, 420, 513), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    def labels_of(part: Tensor) -> Tensor:
        with torch.no_grad():
            answered: Tensor = model(part.double() / 255).argmax(1)
        return answered

    whole = labels_of(pixels[None])[0]
    assert whole.min() < whole.max()
    assert torch.equal(in_parts(pixels, model, labels_of, side=224).long(), whole)
    model.reach = 20  # a part that sees too little answers otherwise
    assert not torch.equal(in_parts(pixels, model, labels_of, side=224).long(), whole)


def test_parts_cover_everything_once_and_see_what_they_need() -> None:
    model = network()
    found = list(parts(2500, model, side=1000))
    assert [each[:2] for each in found] == [(0, 992), (992, 1984), (1984, 2500)]
    assert all(first % 32 == 0 and before % 32 == 0 for first, _, before, _ in found)
    assert all(first - before >= model.reach or before == 0 for first, _, before, _ in found)
    assert found[-1][3] == 2500


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = example(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = {"balance": "median"}
    fit(given.model, given.dataset, settings=settings, epochs=1, batch_size=4, run_dir=str(folder), device="cpu")
    return folder / "model.safetensors"


def test_the_answer_is_written_as_maps_overlays_and_a_legend(trained: Path, tmp_path: Path) -> None:
    picture = numpy.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=numpy.uint8)
    Image.fromarray(picture).save(tmp_path / "street.png")
    (answer,) = predict(trained, tmp_path / "street.png")
    assert answer.labels.shape == (37, 51)
    assert sum(count for _, count in answer.pixels()) == 37 * 51
    labels, drawn, legend = answer.save(tmp_path / "out")
    assert labels.name.endswith("street.png-labels.png")
    with Image.open(labels) as written:
        assert written.mode == "P"
        assert numpy.array_equal(numpy.array(written), answer.labels.numpy())
        assert written.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]  # type: ignore[index]
    with Image.open(drawn) as written:
        colour = numpy.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)])[answer.labels.numpy()]
        assert numpy.abs(numpy.array(written) - (0.55 * colour + 0.45 * picture)).max() <= 1
    assert legend.stat().st_size > 500


def test_pictures_of_several_sizes_are_answered_as_each_alone(trained: Path) -> None:
    chance = torch.Generator().manual_seed(4)
    pictures = [
        torch.randint(0, 256, (3, *size), generator=chance, dtype=torch.uint8) for size in [(9, 8), (9, 8), (5, 12)]
    ]
    together = predict(trained, pictures)
    assert [answer.source for answer in together] == ["0", "1", "2"]
    for answer, picture in zip(together, pictures, strict=True):
        assert torch.equal(answer.labels, predict(trained, picture)[0].labels)


def test_a_large_picture_is_cut(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    (whole,) = predict(trained, picture)
    monkeypatch.setattr(predicting, "MOST_PIXELS", 1000)
    sizes: list[tuple[int, ...]] = []

    def noted(pixels: Tensor, model: Any, labels_of: Any) -> Tensor:
        sizes.append(tuple(pixels.shape))
        return in_parts(pixels, model, labels_of, side=32)

    monkeypatch.setattr(predicting, "in_parts", noted)
    (cut,) = predict(trained, picture)
    assert sizes == [(3, 70, 90)]
    assert torch.equal(cut.labels, whole.labels)


def test_balance_goes_with_the_file(trained: Path, tmp_path: Path) -> None:
    given = example(tmp_path)
    model = load(trained)
    described = spec_of(model)
    assert described is not None
    weights = described.answers.more["weights"]
    assert weights == class_weights(given.dataset.train.histogram, "median")
    plain = copy.deepcopy(model)
    del spec_of(plain).answers.more["weights"]  # type: ignore[union-attr]
    assert evaluate(model, given.dataset).loss != pytest.approx(evaluate(plain, given.dataset).loss, rel=1e-4)


def test_class_weights_by_hand() -> None:
    """Frequencies by median: class 0 has 6 of 10, class 1 3 of 6 in the picture that shows it, class 2 none."""
    histogram = torch.tensor([[3, 3, 0], [4, 0, 0]])
    median = class_weights(histogram, "median")
    assert median[0] / median[1] == pytest.approx((3 / 6) / (7 / 10))
    assert median[2] == 0
    assert sum(w * n for w, n in zip(median, (7, 3, 0), strict=True)) == pytest.approx(10)
    frequency = class_weights(histogram, "frequency")
    assert frequency[0] / frequency[1] == pytest.approx(3 / 7)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    given = example(tmp_path)
    with pytest.raises(UnknownNameError, match="balance: got 'meidan'.*Did you mean 'median'"):
        fit(given.model, given.dataset, settings={"balance": "meidan"}, run_dir=str(tmp_path / "run"))
    with pytest.raises(ArgumentError, match="loss: got 'hinge', wanted nothing: segmentation has"):
        fit(given.model, given.dataset, loss="hinge", run_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_network_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    given = example(tmp_path)
    other = create_model("fcn8s", small=True, width=0.05, classes=5)
    with pytest.raises(ArgumentError, match=r"outputs of shape \(2, 5, .*scores of 3 classes.*Build it with classes=3"):
        fit(other, given.dataset, run_dir=str(tmp_path / "run"))
    with pytest.raises(ArgumentError, match=r"outputs of shape .*wanted scores of every pixel, \(n, classes, h, w\)"):
        fit(_Flat(), given.dataset, task="segmentation")
    coarse = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2))
    with pytest.raises(ArgumentError, match="scores of 3 classes for every pixel"):
        fit(coarse, given.dataset, task="segmentation", run_dir=str(tmp_path / "run"))


class _Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.conv(x), 1)


def test_data_of_other_classes_are_refused_and_fewer_are_renumbered(trained: Path, tmp_path: Path) -> None:
    given = example(tmp_path)
    whole = given.dataset.test
    model = load(trained)
    fewer = whole.restrict(["owl", "cat"])
    figures = evaluate(model, fewer)
    assert figures.classes == ("cat", "dog", "owl")
    kept = whole.histogram.sum(0)[[0, 2]].sum()
    assert figures.pixels == int(kept)
    strange = Maps(whole.pictures, whole.maps, ("cat", "dog", "horse"))
    with pytest.raises(ArgumentError, match=r"data: got \('cat', 'dog', 'horse'\), wanted maps of the model's own"):
        evaluate(model, strange)


def test_own_folders_are_learned_from(tmp_path: Path) -> None:
    """Grey pictures beside palette maps, of several sizes, with a text file of names; a colour network takes them."""
    chance = numpy.random.default_rng(0)
    for place in range(6):
        size = (12 + place, 17 - place)
        labels = chance.integers(0, 2, size).astype(numpy.uint8)
        picture = Image.fromarray((labels * 200 + chance.integers(0, 50, size)).astype(numpy.uint8))
        map_ = Image.fromarray(labels, mode="P")
        map_.putpalette([10, 20, 30, 40, 50, 60])
        for folder, image in (("images", picture), ("labels", map_)):
            (tmp_path / "own" / folder).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "own" / folder / f"{place}.png")
    (tmp_path / "own" / "classes.txt").write_text("field\nforest\n")
    options = {"small": True, "width": 0.05, "in_channels": 3}
    result = fit(
        "fcn8s", load_dataset(tmp_path / "own"), model_options=options, epochs=2, batch_size=2, augment="flip",
        run_dir=str(tmp_path / "run"), device="cpu",
    )  # fmt: skip
    assert result.metrics.classes == ("field", "forest")
    described = spec_of(load(tmp_path / "run" / "model.safetensors"))
    assert described is not None
    assert described.answers.more["palette"] == [[10, 20, 30], [40, 50, 60]]
    assert described.input_shape == (3, 17, 17)


def test_a_task_of_pixels_is_learned() -> None:
    """Which half of grey is a pixel's: nothing but the skips can say it so finely."""
    chance = torch.Generator().manual_seed(0)
    pictures = [
        torch.randint(0, 2, (1, 8, 8), generator=chance).repeat_interleave(4, 1).repeat_interleave(4, 2)
        for _ in range(16)
    ]
    maps = PicturesInMemory([picture.to(torch.uint8) for picture in pictures])
    grey = PicturesInMemory([(picture * 200 + 20).to(torch.uint8) for picture in pictures])
    whole = Maps(grey, maps, ("dark", "light"))
    data = Dataset("halves", whole.select(torch.arange(12)), whole.select(torch.arange(12, 16)))
    torch.manual_seed(0)
    model = create_model("fcn8s", small=True, width=0.25, classes=2, in_channels=1)
    result = fit(model, data, epochs=15, batch_size=4, learning_rate=3e-3, device="cpu", run_dir=None, watch=False)
    first, last = result.history[0].train["pixel_accuracy"], result.history[-1].train["pixel_accuracy"]
    assert last > first
    assert result.metrics.mean_iou > 0.5


def test_colours_tell_classes_apart() -> None:
    assert len(set(palette_for(60))) == 60
    assert palette_for(2, [[1, 2, 3], [4, 5, 6]]) == ((1, 2, 3), (4, 5, 6))


def test_saved_and_loaded_without_training(tmp_path: Path) -> None:
    model = create_model("fcn8s", small=True, width=0.05, classes=3)
    path = save(model, tmp_path / "model.safetensors")
    with pytest.raises(ArgumentError, match="preprocessing: got None"):
        predict(path, torch.zeros(3, 8, 8, dtype=torch.uint8))
