"""STL-10: the published binary version, labelled part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from convscope.data.catalog import Card, Remote, register
from convscope.data.choosing import chosen_classes
from convscope.data.dataset import Dataset
from convscope.data.files import find_file, naming, read_bytes, read_names
from convscope.data.kinds.labelled import Labelled
from convscope.errors import DataError

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SUBSETS = {"slides": ("airplane", "car", "cat", "dog")}
_PIXELS = 3 * 96 * 96


@register(
    "stl10",
    Card(
        title="STL-10",
        year=2011,
        source="Coates, Lee, Ng: An analysis of single-layer networks in unsupervised feature learning",
        shape=(3, 96, 96),
        classes=10,
        train=5_000,
        test=8_000,
        files="train_X.bin, train_y.bin, test_X.bin, test_y.bin (or in stl10_binary/)",
        note="classes=slides takes airplane, car, cat, dog, as Xue's slides of 2016 do.",
    ),
    Remote(
        "stl10_binary.tar.gz",
        (
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        ),
        "md5:91f7769df0f17e558f3565bffb0c7dfb",
        provides=("train_X.bin", "stl10_binary/train_X.bin"),
        unpack=True,
    ),
)
def load(folder: Path, classes: str | Sequence[str] | None = None) -> Dataset:
    """``classes`` keeps only these, in this order; "slides" names the four of the slides."""
    inner = folder / "stl10_binary"
    place = inner if inner.is_dir() and not (folder / "train_X.bin").is_file() else folder
    names = read_names(place / "class_names.txt") if (place / "class_names.txt").is_file() else CLASSES
    with naming(place):
        dataset = Dataset("stl10", _read_part(place, "train", names), _read_part(place, "test", names))
    return chosen_classes(dataset, classes, SUBSETS)


def _read_part(folder: Path, part: str, names: tuple[str, ...]) -> Labelled:
    images_path, labels_path = find_file(folder, [f"{part}_X.bin"]), find_file(folder, [f"{part}_y.bin"])
    pixels, numbers = read_bytes(images_path), read_bytes(labels_path)
    if not pixels or len(pixels) % _PIXELS:
        raise DataError(
            images_path, f"cut short: {len(pixels):,} bytes are not whole pictures of {_PIXELS:,}", "Fetch it again"
        )
    # each colour plane is stored column by column, so the file's last two dimensions are width, height
    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(-1, 3, 96, 96).transpose(2, 3).contiguous()
    if len(images) != len(numbers):
        raise DataError(labels_path, f"{len(numbers):,} labels, but {images_path.name} has {len(images):,} pictures")
    labels = torch.frombuffer(bytearray(numbers), dtype=torch.uint8).to(torch.int64)  # 1 … 10
    wrong = torch.nonzero((labels < 1) | (labels > len(names))).flatten()
    if len(wrong):
        raise DataError(labels_path, f"label {int(labels[wrong[0]])} at place {int(wrong[0])}, wanted 1 … {len(names)}")
    return Labelled(images, labels - 1, names)
