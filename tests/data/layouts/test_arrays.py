from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest
import torch

from convscope.data import load_dataset
from convscope.errors import DataError

IMAGES = numpy.random.default_rng(0).integers(0, 256, (20, 7, 5, 3), dtype=numpy.uint8)
LABELS = numpy.arange(20) % 4


def write(folder: Path, **arrays: numpy.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        numpy.save(folder / f"{name}.npy", array)
    return folder


def test_in_memory_and_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "set", x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:6], y_test=LABELS[:6])
    memory, disk = load_dataset(folder), load_dataset(folder, in_memory=False)
    assert (memory.train.on_disk, disk.train.on_disk) == (False, True)
    assert numpy.array_equal(memory.train.images.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert torch.equal(disk.train.batch(torch.tensor([5, 3])).inputs[0], memory.train.images[[5, 3]])
    assert disk.test.labels.tolist() == LABELS[:6].tolist()
    assert disk.classes == ("0", "1", "2", "3")
    assert disk.fingerprint() == memory.fingerprint()
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING, "convscope.data"):
        assert load_dataset(folder, memory_limit=2000).train.on_disk
    assert "GiB of pictures are read while training" in caplog.text
    with pytest.raises(DataError, match=r"GiB of pictures, more than memory_limit = 0\.0 GiB\. Choose a higher limit"):
        load_dataset(folder, memory_limit=2000, in_memory=True)


@pytest.mark.parametrize("in_memory", [True, False])
def test_one_part_is_divided(tmp_path: Path, in_memory: bool) -> None:
    folder = write(tmp_path / "set", images=IMAGES, labels=numpy.array(list("abcd"))[LABELS])
    data = load_dataset(folder, test_fraction=0.4, in_memory=in_memory)
    assert (data.train.counts(), data.test.counts()) == ([3] * 4, [2] * 4)
    assert data.classes == ("a", "b", "c", "d")


def test_what_does_not_fit(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", images=IMAGES, labels=LABELS[:5])
    with pytest.raises(DataError, match="labels: got 5, wanted one for each of the 20 pictures"):
        load_dataset(folder)
    (folder / "labels.npy").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"labels\.npy: not a readable \.npy file, or damaged"):
        load_dataset(folder)
    write(folder, images=IMAGES / 255)
    with pytest.raises(DataError, match=r"images\.npy: float64 .*, wanted uint8 pictures"):
        load_dataset(folder)
