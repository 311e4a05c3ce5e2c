from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from convscope.data import is_present, load_dataset
from convscope.errors import ArgumentError, DataError


def published(folder: Path) -> dict[str, numpy.ndarray]:
    """train and test with 10 pictures of each; every plane is written column by column, labels count from 1."""
    folder.mkdir(parents=True)
    rng = numpy.random.default_rng(0)
    content = {}
    for part in ("train", "test"):
        content[part] = rng.integers(0, 256, (10, 3, 96, 96), dtype=numpy.uint8)
        with (folder / f"{part}_X.bin").open("wb") as file:
            for picture in content[part]:
                for plane in picture:
                    file.write(plane.tobytes(order="F"))
        (folder / f"{part}_y.bin").write_bytes(bytes(range(1, 11)))
    return content


@pytest.mark.parametrize("inner", ["", "stl10_binary"])
def test_published_binary(tmp_path: Path, inner: str) -> None:
    content = published(tmp_path / "stl10" / inner)
    assert is_present("stl10", tmp_path)
    dataset = load_dataset("stl10", root=tmp_path)
    assert numpy.array_equal(dataset.train.images.numpy(), content["train"])
    assert numpy.array_equal(dataset.test.images.numpy(), content["test"])
    assert dataset.train.labels.tolist() == list(range(10))
    assert dataset.classes[2] == "car"


def test_the_slides_four_classes(tmp_path: Path) -> None:
    content = published(tmp_path / "stl10")
    dataset = load_dataset("stl10", root=tmp_path, classes="slides")
    assert dataset.classes == ("airplane", "car", "cat", "dog")
    assert numpy.array_equal(dataset.train.images.numpy(), content["train"][[0, 2, 3, 5]])
    assert dataset.train.labels.tolist() == [0, 1, 2, 3]
    assert load_dataset("stl10", root=tmp_path, classes=["dog", "bird"]).train.labels.tolist() == [1, 0]
    with pytest.raises(ArgumentError, match="classes: got 'whale', wanted names among airplane, bird"):
        load_dataset("stl10", root=tmp_path, classes="whale")


def test_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "stl10"
    published(folder)
    labels, pictures = folder / "test_y.bin", folder / "test_X.bin"
    labels.write_bytes(bytes([1] * 9 + [0]))
    with pytest.raises(DataError, match=r"test_y\.bin: label 0 at place 9, wanted 1 … 10"):
        load_dataset("stl10", root=tmp_path)
    labels.write_bytes(bytes([1] * 9))
    with pytest.raises(DataError, match=r"test_y\.bin: 9 labels, but test_X\.bin has 10 pictures"):
        load_dataset("stl10", root=tmp_path)
    pictures.write_bytes(pictures.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"test_X\.bin: cut short: 276,473 bytes are not whole pictures of 27,648"):
        load_dataset("stl10", root=tmp_path)
