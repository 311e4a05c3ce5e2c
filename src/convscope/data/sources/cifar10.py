"""CIFAR-10: the published binary and Python versions, and Parquet files as Hugging Face lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from convscope.data.catalog import Card, Remote, register
from convscope.data.choosing import chosen_classes
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_bytes, read_names
from convscope.data.kinds.labelled import Labelled
from convscope.data.layouts.cifar_batches import find_batches, load_batches
from convscope.data.layouts.parquet import find_parquet, load_parquet
from convscope.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes, rows first
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))


@register(
    "cifar10",
    Card(
        title="CIFAR-10 tiny pictures",
        year=2009,
        source="Krizhevsky: Learning multiple layers of features from tiny images",
        shape=(3, 32, 32),
        classes=10,
        train=50_000,
        test=10_000,
        files="data_batch_1.bin … data_batch_5.bin, test_batch.bin (or in cifar-10-batches-bin/), "
        "or cifar-10-batches-py/, or train.parquet and test.parquet",
    ),
    Remote(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        "md5:c32a1d4ab5d03f1284b67883e8d87530",
        provides=(
            "data_batch_1.bin",
            "cifar-10-batches-bin/data_batch_1.bin",
            "cifar-10-batches-py/batches.meta",
            "**/train*.parquet",
        ),
        unpack=True,
    ),
)
def load(folder: Path, classes: str | Sequence[str] | None = None) -> Dataset:
    """``classes`` keeps only these, in this order."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        if any((place / name).is_file() for name in (*_TRAIN, "test_batch.bin")):
            dataset = _load_binary(place)
            break
    else:
        if find_batches(folder) is not None:
            return chosen_classes(load_batches(folder, name="cifar10"), classes)
        if not find_parquet(folder, "train"):
            raise MissingFileError(
                folder, f"files missing: {_TRAIN[0]} … (or train.parquet and test.parquet)",
                f"Put them into the folder {folder}",
            )  # fmt: skip
        dataset = load_parquet(folder, name="cifar10", classes=CLASSES)
    return chosen_classes(dataset, classes)


def _load_binary(folder: Path) -> Dataset:
    for name in (*_TRAIN, "test_batch.bin"):
        if not (folder / name).is_file():
            raise MissingFileError(folder, f"file missing: {name}", f"Put it into the folder {folder}")
    names = read_names(folder / "batches.meta.txt") if (folder / "batches.meta.txt").is_file() else CLASSES
    parts = [_read_batch(folder / name, len(names)) for name in _TRAIN]
    images, labels = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    with naming(folder):
        return Dataset(
            "cifar10",
            Labelled(images, labels, names),
            Labelled(*_read_batch(folder / "test_batch.bin", len(names)), names),
        )


def _read_batch(path: Path, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    content = read_bytes(path)
    if not content or len(content) % _RECORD:
        raise DataError(path, f"cut short: {len(content):,} bytes are not whole records of {_RECORD}", "Fetch it again")
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].to(torch.int64)
    if int(labels.max()) >= classes:
        wrong = int(torch.nonzero(labels >= classes)[0])
        raise DataError(path, f"label {int(labels[wrong])} at place {wrong}, wanted 0 … {classes - 1}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels
