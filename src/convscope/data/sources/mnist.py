"""MNIST and Fashion-MNIST: four idx files, plain or gzipped."""

from __future__ import annotations

from pathlib import Path

import torch

from convscope.data.catalog import Card, register
from convscope.data.dataset import Dataset, Split
from convscope.data.files import find_file
from convscope.data.idx import read_idx
from convscope.errors import DataError

_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@register(
    "mnist",
    Card(
        title="MNIST handwritten digits",
        year=1998,
        source="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition",
        shape=(1, 28, 28),
        classes=10,
        train=60_000,
        test=10_000,
        files=_FILES,
    ),
)
def load_mnist(folder: Path) -> Dataset:
    return load_idx_folder("mnist", folder, DIGITS)


@register(
    "fashion_mnist",
    Card(
        title="Fashion-MNIST articles of clothing",
        year=2017,
        source="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747",
        shape=(1, 28, 28),
        classes=10,
        train=60_000,
        test=10_000,
        files=_FILES,
        note="Same files as MNIST's by name: each set in its own folder.",
    ),
)
def load_fashion_mnist(folder: Path) -> Dataset:
    return load_idx_folder("fashion_mnist", folder, CLOTHES)


def load_idx_folder(name: str, folder: Path, classes: tuple[str, ...]) -> Dataset:
    """The four idx files in ``folder``; DataError for a missing, damaged or mismatched one."""
    return Dataset(name, _read_part(folder, "train", classes), _read_part(folder, "t10k", classes))


def _read_part(folder: Path, part: str, classes: tuple[str, ...]) -> Split:
    images_path = find_file(folder, _spellings(f"{part}-images", 3))
    labels_path = find_file(folder, _spellings(f"{part}-labels", 1))
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(labels_path, f"{len(labels):,} labels, but {images_path.name} has {len(images):,} pictures")
    if len(labels) and int(labels.max()) >= len(classes):
        wrong = int(torch.nonzero(labels >= len(classes))[0])
        raise DataError(labels_path, f"label {int(labels[wrong])} at place {wrong}, wanted 0 … {len(classes) - 1}")
    return Split(images.unsqueeze(1), labels.to(torch.int64), classes)


def _spellings(stem: str, dims: int) -> list[str]:
    """As published, and with a point, as some unpackers write it; each plain or gzipped."""
    return [f"{stem}{mark}idx{dims}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]
