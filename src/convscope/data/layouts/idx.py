"""Folders of four idx files, MNIST's format: as published, and where torchvision keeps them (``MNIST/raw``)."""

from __future__ import annotations

from pathlib import Path

import torch

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.decoded import DECODED_FOLDER, cached, fingerprint_of, home_cache
from convscope.data.files import find_file, naming, read_names
from convscope.data.idx import read_idx
from convscope.data.kinds.labelled import Labelled
from convscope.data.labels import class_numbers
from convscope.errors import DataError

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_TORCHVISION = {"MNIST": DIGITS, "FashionMNIST": CLOTHES, "KMNIST": None}  # its folders; None: named by their numbers


def idx_spellings(stem: str, dims: int) -> list[str]:
    """As published, and with a point, as some unpackers write it; each plain or gzipped."""
    return [f"{stem}{mark}idx{dims}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]


def find_idx(folder: Path) -> Path | None:
    """The folder of training pictures: ``folder``, its ``raw``, or torchvision's ``MNIST/raw`` in it; else None."""
    for place in (folder, folder / "raw", *(folder / name / "raw" for name in _TORCHVISION)):
        if any((place / name).is_file() for name in idx_spellings("train-images", 3)):
            return place
    return None


@layout(
    "idx", "MNIST's four idx files, plain or .gz, also in torchvision's MNIST/raw",
    lambda path: path.is_dir() and find_idx(path) is not None,
)  # fmt: skip
def load_idx(folder: Path) -> Dataset[Labelled]:
    """The data set whose idx files lie in ``folder``, or in ``raw`` or ``MNIST/raw`` below it.

    Classes are named by classes.txt in the files' folder, else as torchvision's folder says (``FashionMNIST``), else by
    their numbers. DataError for a missing, damaged or mismatched file.
    """
    place = find_idx(folder)
    if place is None:
        find_file(folder, idx_spellings("train-images", 3))  # says what is missing
    place = (place or folder).resolve()
    of = place.parent.name if place.name == "raw" else place.name
    listed = place / "classes.txt"
    classes = read_names(listed) if listed.is_file() else _TORCHVISION.get(of)
    return load_idx_folder(of, place, classes)


def load_idx_folder(name: str, folder: Path, classes: tuple[str, ...] | None) -> Dataset[Labelled]:
    """The four idx files in ``folder``; DataError for a missing, damaged or mismatched one.

    Without ``classes`` the labels' own numbers name them. What was gzipped is kept unpacked: reading that takes MNIST
    0.02 s, unpacking it each time 0.27.
    """
    most = 256 if classes is None else len(classes)
    with naming(folder):
        parts = {part: _find_part(folder, part) for part in ("train", "t10k")}
        files = [path for paths in parts.values() for path in paths]

        def build() -> dict[str, torch.Tensor]:
            tensors: dict[str, torch.Tensor] = {}
            for part, paths in parts.items():
                tensors[f"{part}_images"], tensors[f"{part}_labels"] = _read_part(*paths, most)
            return tensors

        if any(path.suffix == ".gz" for path in files):
            places = [folder / DECODED_FOLDER, home_cache(name)]
            tensors = cached(f"{name}-idx", places, fingerprint_of(files, classes=most), build)
        else:
            tensors = build()
        labels, names = class_numbers({f"{part}_labels": tensors[f"{part}_labels"] for part in parts}, classes)
        train, test = (
            Labelled(tensors[f"{part}_images"], each, names) for part, each in zip(parts, labels, strict=True)
        )
        return Dataset(name, train, test)


def _find_part(folder: Path, part: str) -> tuple[Path, Path]:
    """The files of pictures and of labels."""
    return find_file(folder, idx_spellings(f"{part}-images", 3)), find_file(folder, idx_spellings(f"{part}-labels", 1))


def _read_part(images_path: Path, labels_path: Path, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, 1, h, w) and their labels, int64 (n,)."""
    images = read_idx(images_path, 3)
    labels = read_idx(labels_path, 1, items=len(images))
    if len(labels) and int(labels.max()) >= classes:
        wrong = int(torch.nonzero(labels >= classes)[0])
        raise DataError(labels_path, f"label {int(labels[wrong])} at place {wrong}, wanted 0 … {classes - 1}")
    return images.unsqueeze(1), labels.to(torch.int64)
