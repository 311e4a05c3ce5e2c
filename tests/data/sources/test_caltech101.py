from __future__ import annotations

import tarfile
from pathlib import Path

import numpy
import pytest
from PIL import Image

from convscope.data import is_present, load_dataset
from convscope.data.sources.caltech101 import SUBSETS
from convscope.errors import ArgumentError


def published(folder: Path, count: int, names: tuple[str, ...]) -> Path:
    """JPEGs of different sizes in a folder for each category."""
    rng = numpy.random.default_rng(0)
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for place in range(count):
            shape = (20 + place % 3, 30 - number, 3) if place % 4 else (25, 25)  # some are grey
            pixels = rng.integers(0, 256, shape, dtype=numpy.uint8)
            Image.fromarray(pixels).save(folder / name / f"image_{place:04}.jpg")
    return folder


def test_the_slides_ten_classes(tmp_path: Path) -> None:
    published(tmp_path / "caltech101" / "101_ObjectCategories", 12, (*SUBSETS["slides"], "wrench", "BACKGROUND_Google"))
    assert is_present("caltech101", tmp_path)
    dataset = load_dataset(
        "caltech101", root=tmp_path, classes="slides", size=(20, 24), train_per_class=5, test_per_class=7
    )
    assert dataset.shape == (3, 20, 24)
    assert dataset.classes == SUBSETS["slides"]
    assert (dataset.train.counts(), dataset.test.counts()) == ([5] * 10, [7] * 10)
    with pytest.raises(ArgumentError, match=r"train_per_class: got 50, .*at most the 12 pictures of class 'Faces'"):
        load_dataset("caltech101", root=tmp_path, classes="slides")


def test_all_classes_without_the_background(tmp_path: Path) -> None:
    published(tmp_path / "caltech101", 5, ("ant", "barrel", "BACKGROUND_Google"))
    dataset = load_dataset("caltech101", root=tmp_path)
    assert dataset.classes == ("ant", "barrel")
    assert dataset.shape == (3, 200, 200)


def test_the_archive_is_unpacked(tmp_path: Path) -> None:
    source = published(tmp_path / "101_ObjectCategories", 5, ("ant", "barrel"))
    (tmp_path / "root" / "caltech101").mkdir(parents=True)
    with tarfile.open(tmp_path / "root" / "caltech101" / "101_ObjectCategories.tar.gz", "w:gz") as tar:
        tar.add(source, "101_ObjectCategories")
    dataset = load_dataset("caltech101", root=tmp_path / "root", size=16)
    assert dataset.classes == ("ant", "barrel")
    assert is_present("caltech101", tmp_path / "root")
