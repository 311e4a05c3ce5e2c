from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy
import numpy.lib.format
import pytest

from convscope.data import load_dataset
from convscope.data.layouts.npz import load_npz
from convscope.errors import ArgumentError, DataError

RNG = numpy.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 7, 5, 3), dtype=numpy.uint8)
LABELS = numpy.arange(20) % 4


def test_four_arrays(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    numpy.savez(path, x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:8], y_test=LABELS[:8])
    dataset = load_dataset(path)
    assert dataset.name == "set"
    assert (len(dataset.train), len(dataset.test), dataset.shape) == (20, 8, (3, 7, 5))
    assert numpy.array_equal(dataset.train.images.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert dataset.train.labels.tolist() == LABELS.tolist()
    assert dataset.classes == ("0", "1", "2", "3")


def test_two_arrays_and_names(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    numpy.savez_compressed(path, images=IMAGES, labels=LABELS, classes=["a", "b", "c", "d"])
    dataset = load_dataset(str(path), test_fraction=0.4, seed=1)
    assert (dataset.train.counts(), dataset.test.counts()) == ([3] * 4, [2] * 4)
    assert dataset.classes == ("a", "b", "c", "d")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pictures": IMAGES, "labels": LABELS}, "arrays labels, pictures, wanted x_train, y_train, x_test, y_test, or"),
    ({}, r"arrays \(none\)"),
    ({"images": IMAGES, "labels": LABELS[:5]}, "labels: got 5, wanted one for each of the 20 pictures"),
    ({"images": IMAGES / 255, "labels": LABELS}, r"images: got 'float64 .*Scale pixels"),
    ({"images": IMAGES[0], "labels": LABELS[:7]}, "leaves test examples, of 7 in all"),
    ({"images": IMAGES[0, 0], "labels": LABELS[:5]}, "images: got 'uint8"),
    ({"images": IMAGES, "labels": LABELS / 2}, "labels: got 'float64"),
    ({"images": IMAGES, "labels": LABELS - 1}, "labels: got -1, wanted class numbers"),
    ({"images": IMAGES, "labels": LABELS, "classes": ["a", "b"]}, "labels: got 3, wanted class numbers 0 … 1"),
    ({"images": IMAGES, "labels": LABELS, "classes": [1, 2, 3, 4]}, r"classes: int64 \(4,\), wanted a list of names"),
    (
        {"images": numpy.array([None, 3], dtype=object), "labels": LABELS[:2]},
        "Python objects, which are never unpickled",
    ),
    ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :5], "y_test": LABELS}, "pictures of train's shape"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.npz"
    numpy.savez(path, **arrays)
    with pytest.raises(DataError, match=rf"bad\.npz: .*({message})"):
        load_dataset(path)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    numpy.savez(path, images=IMAGES, labels=LABELS)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"some text"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"bad\.npz: not an \.npz file, or cut short"):
            load_dataset(path)
    path.write_bytes(content[:600] + bytes(100) + content[700:])
    with pytest.raises(DataError, match=r"bad\.npz: not a readable \.npz file, or damaged \(Bad CRC-32"):
        load_dataset(path)
    (tmp_path / "set.mat").write_bytes(content)
    with pytest.raises(
        DataError,
        match=r"set\.mat: not a data set\. One is .*; or an \.npz file with",
    ):
        load_dataset(tmp_path / "set.mat")
    entry = content.index(b"PK\x01\x02")
    path.write_bytes(content[: entry + 10] + b"\x63" + content[entry + 11 :])  # way of compression
    with pytest.raises(DataError, match=r"bad\.npz: not a readable .*That compression method is not supported"):
        load_dataset(path)
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"size: got 3, wanted an option of .*test_fraction, seed"):
        load_dataset(path, size=3)


def test_labels_as_text_and_of_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    for labels in (
        numpy.array(["cat", "dog", "eel", "fox"])[LABELS],
        numpy.array([b"cat", b"dog", b"eel", b"fox"])[LABELS],
    ):
        numpy.savez(path, images=IMAGES, labels=labels)
        dataset = load_dataset(path)
        assert dataset.classes == ("cat", "dog", "eel", "fox")
        assert dataset.train.counts() == [4] * 4
    numpy.savez(path, images=IMAGES.astype(">u1"), labels=LABELS.astype(">i8") + 1)
    assert load_dataset(path).classes == ("1", "2", "3", "4")
    numpy.savez(
        path, images=IMAGES, labels=numpy.array(["cat", "dog", "eel", "yak"])[LABELS], classes=["cat", "dog", "eel"]
    )
    with pytest.raises(DataError, match=r"set\.npz: labels: got 'yak', wanted names among the classes cat, dog, eel"):
        load_dataset(path)
    numpy.savez(path, images=IMAGES, labels=numpy.array(["cat"] * 20, dtype=object))
    with pytest.raises(DataError, match=r"set\.npz: holds Python objects, which are never unpickled"):
        load_dataset(path)


def npy(array: numpy.ndarray, claim: tuple[int, ...] | None = None) -> bytes:
    """An .npy file whose header claims another shape."""
    buffer = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(
        buffer, {"shape": claim or array.shape, "fortran_order": False, "descr": array.dtype.str}
    )
    return buffer.getvalue() + array.tobytes()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("labels.npy", npy(LABELS))
        archive.writestr("images.npy", npy(numpy.zeros((80_000, 28, 28), numpy.uint8)))
        archive.writestr("other.npy", b"never looked at")
    assert path.stat().st_size < 2e6
    with pytest.raises(DataError, match=r"bomb\.npz: unpacks to 62,720,\d{3} bytes, more than the limit of 1,000,000"):
        load_npz(path, limit=1_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", npy(LABELS))
        archive.writestr("images.npy", npy(IMAGES, (10**9, 28, 28)))
    tracemalloc.start()
    message = r"images.npy: its header says 1000000000 × 28 × 28 of uint8 = 784,000,000,000 bytes, there are 2,100"
    with pytest.raises(DataError, match=message):
        load_dataset(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
