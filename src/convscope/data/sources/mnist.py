"""MNIST and Fashion-MNIST: four idx files, plain or gzipped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.decoded import DECODED_FOLDER, cached, fingerprint_of, home_cache
from convscope.data.files import find_file, naming
from convscope.data.idx import read_idx
from convscope.data.kinds.labelled import Labelled
from convscope.data.mnist_variants import changed
from convscope.errors import DataError

_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
DIGITS = tuple(str(digit) for digit in range(10))
_MNIST_PLACES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_FASHION_PLACES = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _spellings(stem: str, dims: int) -> list[str]:
    """As published, and with a point, as some unpackers write it; each plain or gzipped."""
    return [f"{stem}{mark}idx{dims}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]


def _remotes(places: tuple[str, ...], *checksums: str) -> tuple[Remote, ...]:
    """The four files at each of the ``places``, with their MD5 as published."""
    stems = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
    return tuple(
        Remote(
            f"{stem}-idx{dims}-ubyte.gz",
            tuple(f"{place}{stem}-idx{dims}-ubyte.gz" for place in places),
            f"md5:{checksum}",
            provides=tuple(_spellings(stem, dims)),
        )
        for (stem, dims), checksum in zip(stems, checksums, strict=True)
    )


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
    *_remotes(
        _MNIST_PLACES,
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
def load_mnist(folder: Path, variant: str = "plain", seed: int = 0) -> Dataset:
    """``variant``: "plain", or the digits "rotated", rotated, scaled and translated ("rts") or "cluttered", as ``seed``
    says (see ``convscope.data.mnist_variants``)."""
    plain = load_idx_folder("mnist", folder, DIGITS)
    if variant == "plain":
        return plain
    train, test = (
        dataclasses.replace(part, images=changed(part.images, variant, seed, name))
        for part, name in ((plain.train, "train"), (plain.test, "test"))
    )
    return Dataset(f"mnist-{variant}", train, test)


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
    *_remotes(
        _FASHION_PLACES,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
def load_fashion_mnist(folder: Path) -> Dataset:
    return load_idx_folder("fashion_mnist", folder, CLOTHES)


def load_idx_folder(name: str, folder: Path, classes: tuple[str, ...]) -> Dataset:
    """The four idx files in ``folder``; DataError for a missing, damaged or mismatched one.

    What was gzipped is kept unpacked: reading that takes MNIST 0.02 s, unpacking it each time 0.27.
    """
    with naming(folder):
        parts = {part: _find_part(folder, part) for part in ("train", "t10k")}
        files = [path for paths in parts.values() for path in paths]

        def build() -> dict[str, torch.Tensor]:
            tensors: dict[str, torch.Tensor] = {}
            for part, paths in parts.items():
                tensors[f"{part}_images"], tensors[f"{part}_labels"] = _read_part(*paths, len(classes))
            return tensors

        if any(path.suffix == ".gz" for path in files):
            places = [folder / DECODED_FOLDER, home_cache(name)]
            tensors = cached(f"{name}-idx", places, fingerprint_of(files, classes=len(classes)), build)
        else:
            tensors = build()
        train, test = (Labelled(tensors[f"{part}_images"], tensors[f"{part}_labels"], classes) for part in parts)
        return Dataset(name, train, test)


def _find_part(folder: Path, part: str) -> tuple[Path, Path]:
    """The files of pictures and of labels."""
    return find_file(folder, _spellings(f"{part}-images", 3)), find_file(folder, _spellings(f"{part}-labels", 1))


def _read_part(images_path: Path, labels_path: Path, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, 1, h, w) and their labels, int64 (n,)."""
    images = read_idx(images_path, 3)
    labels = read_idx(labels_path, 1, items=len(images))
    if len(labels) and int(labels.max()) >= classes:
        wrong = int(torch.nonzero(labels >= classes)[0])
        raise DataError(labels_path, f"label {int(labels[wrong])} at place {wrong}, wanted 0 … {classes - 1}")
    return images.unsqueeze(1), labels.to(torch.int64)
