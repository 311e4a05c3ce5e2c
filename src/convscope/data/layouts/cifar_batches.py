"""CIFAR's Python version: ``cifar-10-batches-py`` and ``cifar-100-python``, read without running their pickles."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming
from convscope.data.kinds.labelled import Labelled
from convscope.data.labels import class_numbers
from convscope.data.plain_pickle import read_plain_pickle
from convscope.errors import DataError

_TEN = (tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta", "label")
_HUNDRED = (("train",), "test", "meta", "fine_label")
_FOLDERS = {"cifar-10-batches-py": _TEN, "cifar-100-python": _HUNDRED}


def find_batches(folder: Path) -> Path | None:
    """``folder`` itself or the folder in it that an archive of CIFAR unpacks to; None where there are no batches."""
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if any((place / parts[0][0]).is_file() and (place / parts[2]).is_file() for parts in _FOLDERS.values()):
            return place
    return None


@layout(
    "cifar_batches", "CIFAR's Python version, data_batch_1 … or train, with its .meta file, read without unpickling",
    lambda path: path.is_dir() and find_batches(path) is not None,
)  # fmt: skip
def load_batches(folder: Path, name: str = "") -> Dataset[Labelled]:
    """The data set in ``folder``; DataError, naming the file, for one that is missing, damaged or more than plain data.

    Of CIFAR-100 the hundred fine classes are taken.
    """
    place = find_batches(folder)
    if place is None:
        raise MissingFileError(folder, "file missing: data_batch_1", f"Put it into the folder {folder}")
    train, test, meta, label = next(parts for parts in _FOLDERS.values() if (place / parts[0][0]).is_file())
    for file in (*train, test, meta):
        if not (place / file).is_file():
            raise MissingFileError(place, f"file missing: {file}", f"Put it into the folder {place}")
    classes = read_plain_pickle(place / meta).get(f"{label}_names")
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise DataError(place / meta, f"holds no list {label}_names")
    batches = [_read(place / file, f"{label}s", len(classes)) for file in train]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with naming(place):
        return Dataset(
            name or place.resolve().name,
            Labelled(images, labels, tuple(classes)),
            Labelled(*_read(place / test, f"{label}s", len(classes)), tuple(classes)),
        )


def _read(path: Path, key: str, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, 3, 32, 32) and labels (n,): a row holds the red, the green and the blue plane, rows first."""
    batch = read_plain_pickle(path)
    rows, labels = batch.get("data"), batch.get(key)
    if not isinstance(rows, numpy.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32 or labels is None:
        raise DataError(path, f"holds {', '.join(sorted(batch)) or 'nothing'}, wanted data (n, 3072) and {key}")
    with naming(path):
        ((numbers,), _) = class_numbers({key: labels}, tuple(map(str, range(classes))))
        images = torch.from_numpy(numpy.ascontiguousarray(rows).copy()).reshape(-1, 3, 32, 32)
        return images, Labelled(images, numbers, tuple(map(str, range(classes)))).labels
