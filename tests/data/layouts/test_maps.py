from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from convscope.data import load_dataset
from convscope.data.layouts import maps as maps_module
from convscope.errors import ArgumentError, DataError


def place(folder: Path, stem: str, values: numpy.ndarray, palette: list[int] | None = None) -> None:
    """A picture 10 times as bright as the map's values, and the map."""
    for inner in ("images", "labels"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    bright = numpy.repeat((values * 10).astype(numpy.uint8)[:, :, None], 3, 2)
    Image.fromarray(bright).save(folder / "images" / f"{stem}.png")
    image = Image.fromarray(values.astype(numpy.uint8))
    if palette is not None:
        image.putpalette(palette)
    image.save(folder / "labels" / f"{stem}.png")


def values(seed: int, size: tuple[int, int] = (6, 8)) -> numpy.ndarray:
    drawn = numpy.random.default_rng(seed).integers(0, 4, size)
    drawn[drawn == 3] = 255
    return drawn


@pytest.mark.parametrize("in_memory", [True, False])
def test_parts_and_names(tmp_path: Path, in_memory: bool) -> None:
    for number in range(3):
        place(tmp_path / "train", f"{number}", values(number, (6, 8 + number)))
    place(tmp_path / "val", "0", values(9))
    (tmp_path / "classes.txt").write_text("road\nsky\ncar\n")
    data = load_dataset(tmp_path, in_memory=in_memory)
    assert (data.kind, data.classes, len(data.train), len(data.test)) == ("maps", ("road", "sky", "car"), 3, 1)
    assert data.train.on_disk is not in_memory
    batch = data.train.batch(torch.tensor([2, 0]))
    assert batch.targets[0].tolist() == values(2, (6, 10)).tolist()
    assert batch.targets[1, :, :8].tolist() == values(0).tolist()
    assert (batch.targets[1, :, 8:] == 255).all()
    assert torch.equal(batch.inputs[0][0, 0], (batch.targets[0] * 10).to(torch.uint8))
    assert batch.weight == int((batch.targets != 255).sum())
    assert data.train.palette is None


def test_one_folder_is_divided_and_classes_are_numbered(tmp_path: Path) -> None:
    for number in range(10):
        place(tmp_path, f"{number}", values(number))
    data = load_dataset(tmp_path, test_fraction=0.3, seed=1)
    assert (len(data.train), len(data.test), data.classes) == (7, 3, ("0", "1", "2"))
    with pytest.raises(ArgumentError, match=r"test: got 'val', wanted a folder with train/ and val/ in it"):
        load_dataset(tmp_path, test="val")


def test_palettes_give_numbers_and_colours(tmp_path: Path) -> None:
    for number in range(5):
        place(tmp_path, f"{number}", values(number), palette=[9, 8, 7, 6, 5, 4, 3, 2, 1] + [0] * 759)
    data = load_dataset(tmp_path)
    assert data.train.palette == ((9, 8, 7), (6, 5, 4), (3, 2, 1))
    everything = torch.cat([part.batch(torch.arange(len(part))).targets for part in (data.train, data.test)])
    assert sorted(map(str, everything.tolist())) == sorted(str(values(number).tolist()) for number in range(5))


def test_some_classes_and_another_ignored_value(tmp_path: Path) -> None:
    for number in range(4):
        place(tmp_path, f"{number}", numpy.where(values(number) == 255, 3, values(number)))
    data = load_dataset(tmp_path, names=["road", "sky", "car"], ignored=3, classes="car,road")
    assert data.classes == ("car", "road")
    assert set(data.train.batch(torch.arange(3)).targets.unique().tolist()) == {0, 1, 3}
    with pytest.raises(DataError, match=r"\.png: a pixel of value 3, wanted class numbers 0 … 2, or 255"):
        load_dataset(tmp_path, names=["road", "sky", "car"])


@pytest.mark.parametrize("in_memory", [True, False])
def test_values_without_a_class_are_counted_over_all_maps(
    tmp_path: Path, in_memory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        strange = values(number)
        if number in (1, 2):
            strange[0, : number + 1] = 70 + number
        place(tmp_path, f"{number}", strange)
    said = r"\.png: a pixel of value 7[12], .* 5 pixels of 2 maps have values without a class: 71, 72\. Name them"
    with pytest.raises(DataError, match=said):
        load_dataset(tmp_path, names=["road", "sky", "car"], in_memory=in_memory)
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(tmp_path, in_memory=in_memory)
    assert len(data.classes) == 73
    assert "numbered 0 … 72, since 1 of the maps have that value (3 pixels), but no pixel has 3, 4, 5, 6" in caplog.text
    assert "7 and 63 more" in caplog.text


def test_scaled_down_by_the_nearest_pixel(tmp_path: Path) -> None:
    big = numpy.kron(values(1, (4, 6)), numpy.ones((3, 3), dtype=numpy.int64))
    for number in range(2):
        place(tmp_path, f"{number}", big)
    data = load_dataset(tmp_path, longest=6, test_fraction=0.5)
    assert data.train.batch(torch.tensor([0])).targets[0].tolist() == values(1, (4, 6)).tolist()
    assert data.train.shape == (3, 4, 6)


def test_what_does_not_match_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):
        place(tmp_path, f"{number}", values(number))
    (tmp_path / "images" / "0.png").unlink()
    (tmp_path / "labels" / "1.png").unlink()
    Image.new("L", (3, 3)).save(tmp_path / "labels" / "2.png")
    (tmp_path / "labels" / "3.png").write_text("no picture")
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(tmp_path, test_fraction=0.5)
    assert len(data.train) + len(data.test) == 2
    assert "1 pictures without a map (1)" in caplog.text
    assert "1 maps without a picture (0)" in caplog.text
    assert "1 maps of another size than their picture (2.png)" in caplog.text
    assert "1 unreadable files (not a picture that can be read" in caplog.text
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no picture with a map in one of its parts"):
        load_dataset(tmp_path)


def test_colour_maps_and_missing_folders_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        place(tmp_path, f"{number}", values(number))
        Image.new("RGB", (8, 6)).save(tmp_path / "labels" / f"{number}.png")
    with pytest.raises(DataError, match=r"\.png: a picture of mode RGB, wanted one number a pixel\. Save it grey"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"folder missing: train\. Put train/ and test/ into the folder"):
        maps_module.load_maps(tmp_path / "labels")
    (tmp_path / "part" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="folders missing: images and labels"):
        maps_module.load_maps(tmp_path / "part")
