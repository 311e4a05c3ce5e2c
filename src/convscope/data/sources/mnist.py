"""MNIST and Fashion-MNIST: four idx files, plain or gzipped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.layouts.idx import CLOTHES, DIGITS, find_idx, idx_spellings, load_idx_folder
from convscope.data.mnist_variants import changed

_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
_MNIST_PLACES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_FASHION_PLACES = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)


def _remotes(places: tuple[str, ...], torchvision: str, *checksums: str) -> tuple[Remote, ...]:
    """The four files at each of the ``places``, with their MD5 as published; ``torchvision`` is its
    folder of the set."""
    stems = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
    return tuple(
        Remote(
            f"{stem}-idx{dims}-ubyte.gz",
            tuple(f"{place}{stem}-idx{dims}-ubyte.gz" for place in places),
            f"md5:{checksum}",
            provides=tuple(f"{way}{name}" for way in ("", f"{torchvision}/raw/") for name in idx_spellings(stem, dims)),
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
        "MNIST",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
def load_mnist(folder: Path, variant: str = "plain", seed: int = 0) -> Dataset:
    """``variant``: "plain", or the digits "rotated", rotated, scaled and translated ("rts") or "cluttered", as ``seed``
    says (see ``convscope.data.mnist_variants``)."""
    plain = load_idx_folder("mnist", find_idx(folder) or folder, DIGITS)
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
        "FashionMNIST",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
def load_fashion_mnist(folder: Path) -> Dataset:
    return load_idx_folder("fashion_mnist", find_idx(folder) or folder, CLOTHES)
