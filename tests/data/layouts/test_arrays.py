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


def test_parts_are_one_set(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:6], y_test=LABELS[:6])
    cuts: dict[str, numpy.ndarray] = {f"x_train-{part:05d}-of-00003": IMAGES[rows] for part, rows in enumerate(CUTS)}
    cuts |= {f"y_train-{part}-of-3": LABELS[rows] for part, rows in enumerate(CUTS)}
    parts = write(tmp_path / "parts", **cuts, x_test=IMAGES[:6], y_test=LABELS[:6])
    one, several = (load_dataset(each, in_memory=False).train for each in (whole, parts))
    assert several.on_disk
    assert several.labels.tolist() == LABELS.tolist()
    for places in ([19, 0, 7, 6, 8, 7], [3], list(range(20))):
        wanted = torch.from_numpy(IMAGES[places].transpose(0, 3, 1, 2))
        assert torch.equal(several.batch(torch.tensor(places)).inputs[0], wanted)
    chosen = several.select(torch.tensor([18, 2, 7])).select(torch.tensor([2, 0]))
    assert torch.equal(chosen.batch(torch.tensor([1, 0])).inputs[0], one.batch(torch.tensor([18, 7])).inputs[0])
    assert torch.equal(several.pictures.picture(8), one.pictures.picture(8))
    assert several.fingerprint() == one.fingerprint()
    assert several.statistics() == one.statistics()
    assert torch.equal(load_dataset(parts).train.images, load_dataset(whole).train.images)


CUTS = (slice(0, 7), slice(7, 8), slice(8, 20))


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    parts = {f"images-{part}-of-3": IMAGES[rows] for part, rows in enumerate(CUTS)}
    folder = write(tmp_path / "set", **parts, labels=LABELS)
    assert len(load_dataset(folder, in_memory=False).train) == 16
    write(folder, **{"images-1-of-3": IMAGES[:1, :, :4]})
    with pytest.raises(
        DataError, match=r"images-1-of-3\.npy: pictures of 3×7×4, where those of images-0-of-3\.npy are"
    ):
        load_dataset(folder)
    (folder / "images-1-of-3.npy").unlink()
    with pytest.raises(DataError, match=r"file missing: images-1-of-3\.npy"):
        load_dataset(folder)
    write(folder, **{"images-1-of-2": IMAGES})
    with pytest.raises(DataError, match="parts of images out of 2 and out of 3"):
        load_dataset(folder)
