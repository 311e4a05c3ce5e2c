from __future__ import annotations

import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from convscope.data import is_present, load_dataset
from convscope.data.layouts import parquet as parquet_module
from convscope.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def published(folder: Path) -> dict[str, numpy.ndarray]:
    """The six binary files with 10 pictures in each, as the data set's page describes them."""
    folder.mkdir(parents=True)
    rng = numpy.random.default_rng(0)
    content = {}
    for name in BATCHES:
        content[name] = rng.integers(0, 256, (10, 3, 32, 32), dtype=numpy.uint8)
        rows = [bytes([label]) + picture.tobytes() for label, picture in enumerate(content[name])]
        (folder / name).write_bytes(b"".join(rows))
    return content


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_binary_version(tmp_path: Path, inner: str) -> None:
    content = published(tmp_path / "cifar10" / inner)
    assert is_present("cifar10", tmp_path)
    dataset = load_dataset("cifar10", root=tmp_path)
    wanted = numpy.concatenate([content[name] for name in BATCHES[:5]])
    assert numpy.array_equal(dataset.train.images.numpy(), wanted)
    assert numpy.array_equal(dataset.test.images.numpy(), content["test_batch.bin"])
    assert dataset.test.labels.tolist() == list(range(10))
    assert dataset.classes == CLASSES
    some = load_dataset("cifar10", root=tmp_path, classes="truck,cat")
    assert some.classes == ("truck", "cat")
    assert numpy.array_equal(some.test.images.numpy(), content["test_batch.bin"][[3, 9]])


def test_damaged_binary_version(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    published(folder)
    path = folder / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: cut short: 30,729 bytes are not whole records of 3073"):
        load_dataset("cifar10", root=tmp_path)
    path.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: label 10 at place 0, wanted 0 … 9"):
        load_dataset("cifar10", root=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"file missing: data_batch_3\.bin|is not complete"):
        load_dataset("cifar10", root=tmp_path)


def encoded(pixels: numpy.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: Path, pictures: list[Any], labels: list[Any], column: str = "img", names: Any = None) -> None:
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    values = [{"bytes": picture, "path": None} for picture in pictures]
    table = pyarrow.table({column: pyarrow.array(values, kind), "label": pyarrow.array(labels)})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=7)


PIXELS = numpy.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=numpy.uint8)
PICTURES = [encoded(pixels) for pixels in PIXELS]


def test_parquet_version_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar10"
    write_parquet(folder / "train.parquet", PICTURES, [place % 10 for place in range(20)])
    write_parquet(folder / "test.parquet", PICTURES[:10], list(range(10)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    assert is_present("cifar10", tmp_path)
    dataset = load_dataset("cifar10", root=tmp_path)
    assert numpy.array_equal(dataset.train.images.numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert dataset.train.labels.tolist() == [place % 10 for place in range(20)]

    monkeypatch.setattr(parquet_module, "decode_pixels", lambda *arguments: pytest.fail("decoded again"))
    assert torch.equal(load_dataset("cifar10", root=tmp_path).train.images, dataset.train.images)
    monkeypatch.undo()
    write_parquet(folder / "train.parquet", PICTURES[::-1], [place % 10 for place in range(20)])
    changed = load_dataset("cifar10", root=tmp_path)
    assert numpy.array_equal(changed.train.images.numpy(), PIXELS[::-1].transpose(0, 3, 1, 2))


def test_a_read_only_folder_is_cached_at_home(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    write_parquet(folder / "train.parquet", PICTURES, [place % 10 for place in range(20)])
    write_parquet(folder / "test.parquet", PICTURES[:10], list(range(10)))
    folder.chmod(0o555)
    try:
        load_dataset("cifar10", root=tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == ["test.parquet", "train.parquet"]
        kept = list((Path.home() / ".cache" / "convscope" / "cifar10").rglob("*.safetensors"))
        assert len(kept) == 1
    finally:
        folder.chmod(0o755)


def test_a_folder_with_parquet_files_by_path(tmp_path: Path) -> None:
    grey = [encoded(pixels[:, :, 0]) for pixels in PIXELS]
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", grey[:10], [0, 1] * 5, "image", ["cat", "dog"])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", PICTURES[10:], [0, 1] * 5, "image")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert dataset.shape == (3, 32, 32)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    labels = [place % 10 for place in range(20)]
    cut = [*PICTURES[:4], PICTURES[4][:60], *PICTURES[5:]]
    other_size = [*PICTURES[:-1], encoded(PIXELS[0, :16])]
    kinds: list[tuple[list[Any], list[Any], str, str]] = [
        (cut, labels, "img", r"train\.parquet row 4: damaged or cut short picture"),
        ([None, *PICTURES[1:]], labels, "img", "row 0 has no picture bytes"),
        (other_size, labels, "img", r"pictures of different sizes: 16×32, 32×32"),
        (PICTURES, [0.5] * 20, "img", "label column of type double, wanted class numbers"),
        (PICTURES, ["cat", None] * 10, "img", "label column of type string, wanted class numbers .* or names"),
        (PICTURES, [None, *labels[1:]], "img", "wanted class numbers without gaps"),
        (PICTURES, labels, "photo", r"columns photo, label, wanted img = \{bytes, path\} and label"),
        (PICTURES, [-1, *labels[1:]], "img", "labels: got -1, wanted class numbers"),
    ]
    for pictures, numbers, column, message in kinds:
        write_parquet(path, pictures, numbers, column)
        with pytest.raises(DataError, match=message):
            load_dataset(tmp_path)
    parquet.write_table(pyarrow.table({"img": list(range(20)), "label": labels}), path)
    with pytest.raises(DataError, match="picture column of type int64, wanted a struct of bytes and path"):
        load_dataset(tmp_path)
    write_parquet(path, PICTURES, labels)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.parquet: not a Parquet file, or damaged"):
        load_dataset(tmp_path)


def test_class_names_that_are_too_few(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", PICTURES, [place % 10 for place in range(20)])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="labels: got 9, wanted class numbers 0 … 1"):
        load_dataset(tmp_path)
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(DataError, match=r"classes\.txt: holds no class names"):
        load_dataset(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"classes\.txt: not a text file"):
        load_dataset(tmp_path)


REAL = os.environ.get("CONVSCOPE_DATA")


@pytest.mark.skipif(not REAL or not (Path(REAL) / "cifar10").is_dir(), reason="no real CIFAR-10 in CONVSCOPE_DATA")
def test_real_test_part(tmp_path: Path) -> None:
    """The 10,000 test pictures alone: their known counts and mean colour."""
    assert REAL is not None
    (tmp_path / "train.parquet").symlink_to(Path(REAL) / "cifar10" / "test.parquet")
    dataset = load_dataset(tmp_path, test_fraction=0.5)
    assert dataset.train.counts() == dataset.test.counts() == [500] * 10
    assert dataset.mean == pytest.approx((0.4942, 0.4851, 0.4504), abs=0.01)  # of the original test pictures


def test_labels_that_begin_at_one_or_are_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", PICTURES, [place % 4 + 1 for place in range(20)])
    assert load_dataset(tmp_path).classes == ("1", "2", "3", "4")
    write_parquet(tmp_path / "test.parquet", PICTURES, [-1] * 20)
    with pytest.raises(DataError, match="test_labels: got -1, wanted class numbers from 0 on. -1 often marks"):
        load_dataset(tmp_path)


def test_what_unpacks_to_far_more_is_refused_by_its_header(tmp_path: Path) -> None:
    blank = encoded(numpy.zeros((3000, 3000), numpy.uint8))
    path = tmp_path / "train.parquet"
    write_parquet(path, [blank] * 7, [0, 1, 0, 1, 0, 1, 1])
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match=r"train\.parquet: its pictures take more than the limit of 20,000,000 bytes"):
        parquet_module._read([path], limit=20_000_000)
    write_parquet(path, [bytes([number]) * 1_000_000 for number in range(7)], [0] * 7)
    with pytest.raises(DataError, match=r"a row group unpacks to 7,\d{3},\d{3} bytes, more than the limit of 5,0"):
        parquet_module._read([path], limit=5_000_000)


def test_a_value_that_every_row_repeats_is_not_unpacked_for_all(tmp_path: Path) -> None:
    """1,000 rows share 1 MB, which the file holds once: unpacked together they would take 1 GB."""
    path = tmp_path / "train.parquet"
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    one = pyarrow.array([{"bytes": bytes(1_000_000), "path": None}], kind)
    column = pyarrow.chunked_array([one] * 1000)
    table = pyarrow.table({"img": column, "label": pyarrow.array([0] * 1000)})
    parquet.write_table(table, path)
    assert path.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="row 0: not a picture"):
        parquet_module._read([path], limit=100_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_a_path_to_one_file_and_labels_that_are_names(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    write_parquet(path, PICTURES, ["dog", "cat"] * 10, "image")
    for _ in range(2):  # decoded, then kept
        dataset = load_dataset(path)
        assert (dataset.name, dataset.classes) == ("pets", ("cat", "dog"))
        assert (dataset.train.counts(), dataset.test.counts()) == ([8, 8], [2, 2])
    first = next(
        place for place in range(20) if numpy.array_equal(dataset.test.images[0], PIXELS[place].transpose(2, 0, 1))
    )
    assert dataset.test.labels[0] == 1 - first % 2
    write_parquet(tmp_path / "both" / "train-00000-of-00002.parquet", PICTURES, ["dog", "cat"] * 10)
    write_parquet(tmp_path / "both" / "train-00001-of-00002.parquet", PICTURES, [0, 1] * 10)
    with pytest.raises(DataError, match="labels are names in one file and numbers in another"):
        load_dataset(tmp_path / "both")
