"""CIFAR's Python version: files written step by step as Python 2 wrote them, and read without being run."""

from __future__ import annotations

import codecs
import pickle
import struct
from pathlib import Path

import numpy
import pytest

from convscope.data import is_present, load_dataset
from convscope.data.plain_pickle import read_plain_pickle
from convscope.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RNG = numpy.random.default_rng(0)


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def array(rows: numpy.ndarray) -> bytes:
    """An array as NumPy 1 under Python 2 pickled it."""
    kind = b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"M" + struct.pack("<H", rows.shape[0]) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    start = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01"
    return start + shape + kind + b"\x89" + text(rows.tobytes()) + b"tb"


def batch(rows: numpy.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}q\x01(" + text(key) + b"q\x04]q\x05(" + numbers + b"e" + text(b"data") + array(rows) + b"u."


def meta(key: bytes, names: list[str]) -> bytes:
    listed = b"".join(text(name.encode()) for name in names)
    return b"\x80\x02}q\x01(U\x13num_cases_per_batchM\x10'" + text(key) + b"]q\x05(" + listed + b"eu."


def write(folder: Path) -> dict[str, numpy.ndarray]:
    folder.mkdir(parents=True)
    content = {}
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        content[file] = RNG.integers(0, 256, (10, 3072), dtype=numpy.uint8)
        (folder / file).write_bytes(batch(content[file], list(range(10))))
    (folder / "batches.meta").write_bytes(meta(b"label_names", NAMES))
    return content


def test_the_folder_by_its_path_its_parent_s_and_by_name(tmp_path: Path) -> None:
    content = write(tmp_path / "cifar10" / "cifar-10-batches-py")
    assert is_present("cifar10", tmp_path)
    wanted = numpy.concatenate([rows.reshape(-1, 3, 32, 32) for file, rows in content.items() if file != "test_batch"])
    for dataset in (
        load_dataset(tmp_path / "cifar10" / "cifar-10-batches-py"),
        load_dataset("cifar10", root=tmp_path),
        load_dataset(tmp_path / "cifar10"),
    ):
        assert numpy.array_equal(dataset.train.images.numpy(), wanted)
        assert dataset.test.labels.tolist() == list(range(10))
        assert dataset.classes == tuple(NAMES)
    assert load_dataset("cifar10", root=tmp_path, classes="cat,dog").classes == ("cat", "dog")


def test_cifar_100(tmp_path: Path) -> None:
    for file in ("train", "test"):
        (tmp_path / file).write_bytes(
            batch(RNG.integers(0, 256, (4, 3072), dtype=numpy.uint8), [0, 99, 7, 1], b"fine_labels")
        )
    (tmp_path / "meta").write_bytes(meta(b"fine_label_names", [f"class {number}" for number in range(100)]))
    dataset = load_dataset(tmp_path)
    assert (len(dataset.classes), dataset.train.labels.tolist()) == (100, [0, 99, 7, 1])


def test_it_reads_what_python_s_own_reader_does(tmp_path: Path) -> None:
    """The independent result: ``pickle`` on bytes that were written here."""
    rows = RNG.integers(0, 256, (10, 3072), dtype=numpy.uint8)
    (tmp_path / "b").write_bytes(batch(rows, list(range(10))))
    theirs = pickle.loads((tmp_path / "b").read_bytes(), encoding="latin1")
    ours = read_plain_pickle(tmp_path / "b")
    assert ours["labels"] == theirs["labels"]
    assert numpy.array_equal(ours["data"], theirs["data"])
    assert numpy.array_equal(ours["data"], rows)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


SHORT = batch(numpy.zeros((3, 3072), numpy.uint8), [0, 1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": Bomb()}, protocol=2), r"it names \w+\.exec, and nothing that a file names"),
        (pickle.dumps({"data": Bomb()}, protocol=4), r"it names builtins\.exec, and nothing that a file names"),
        (pickle.dumps({"a": 1.5}, protocol=2), "step BINFLOAT at byte"),
        (b"\x80\x02cposix\nsystem\nU\x02ls\x85R.", "it names posix.system"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "a call that is neither of an array nor of the type u1"),
        (b"\x80\x02}e.", "step APPENDS at byte 3: nothing there to work on"),
        (b"\x80\x02]K\x01K\x02s.", "pairs without a dictionary"),
        (b"\x80\x02h\x07.", "step BINGET at byte 2"),
        (b"\x80\x02]q\x01.", "holds list, wanted a dictionary"),
        (b"", "not a pickle of plain data, or damaged"),
        (SHORT[:4000], "not a pickle of plain data, or damaged"),
        (SHORT.replace(b"M\x03\x00", b"M\x04\x00"), r"an array of shape \(4, 3072\) with 9,216 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_plain_data_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"data_batch_1: .*{message}"):
        read_plain_pickle(path)


def test_files_that_lack_or_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write(folder)
    good = (folder / "data_batch_2").read_bytes()
    (folder / "data_batch_2").write_bytes(batch(numpy.zeros((2, 3072), numpy.uint8), [0, 10]))
    with pytest.raises(DataError, match="data_batch_2: labels: got 10, wanted class numbers 0 … 9"):
        load_dataset(folder)
    (folder / "data_batch_2").write_bytes(batch(numpy.zeros((2, 30), numpy.uint8), [0, 1]))
    with pytest.raises(DataError, match=r"data_batch_2: holds data, labels, wanted data \(n, 3072\) and labels"):
        load_dataset(folder)
    (folder / "data_batch_2").write_bytes(batch(numpy.zeros((2, 3072), numpy.uint8), [0, 1, 2]))
    with pytest.raises(DataError, match="data_batch_2: labels: got 3, wanted one for each of the 2 pictures"):
        load_dataset(folder)
    (folder / "data_batch_2").write_bytes(good)
    (folder / "batches.meta").write_bytes(meta(b"names", NAMES))
    with pytest.raises(DataError, match=r"batches\.meta: holds no list label_names"):
        load_dataset(folder)
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match="file missing: test_batch"):
        load_dataset(folder)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", ["labels", b"labels"])
def test_what_python_3_wrote_anew_is_read(tmp_path: Path, protocol: int, key: str | bytes) -> None:
    rows = RNG.integers(0, 256, (40, 3072), dtype=numpy.uint8)
    content = {key: list(range(40)), "data": rows, "names": [f"{'long ' * 60}é{number}" for number in range(40)]}
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    found = read_plain_pickle(tmp_path / "batch")
    assert numpy.array_equal(found["data"], rows)
    assert found["labels"] == list(range(40))
    assert found["names"] == content["names"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_nothing_but_bytes_is_decoded(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": codecs.decode, "b": b"x"}, protocol))
    with pytest.raises(DataError, match=r"it names _codecs\.decode, and nothing that a file names is called"):
        read_plain_pickle(tmp_path / "batch")
