"""Pictures in .npy files: x_train.npy, y_train.npy, x_test.npy, y_test.npy, or the names that .npz files may use.

Unlike those of an .npz file they can be read piece by piece, so the pictures may be more than memory holds. Each may be
in several parts, x_train-00000-of-00020.npy …, one behind another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.kinds.labelled_on_disk import LabelledOnDisk
from convscope.data.labels import Labels, class_numbers
from convscope.data.layouts.npz import PARTS, WHOLE
from convscope.data.picture_stores import PictureStore, PixelFile, PixelShards
from convscope.errors import DataError

_log = logging.getLogger("convscope.data")


_PART = re.compile(r"-(\d+)-of-(\d+)\.npy")


def _files(folder: Path, name: str) -> list[Path]:
    """The file of array ``name``, or its parts in turn; DataError where one of these is missing."""
    if (folder / f"{name}.npy").is_file():
        return [folder / f"{name}.npy"]
    found = {path: _PART.fullmatch(path.name.removeprefix(name)) for path in sorted(folder.glob(f"{name}-*-of-*.npy"))}
    parts = {path: (int(match[1]), int(match[2])) for path, match in found.items() if match is not None}
    if not parts:
        return []
    counts = sorted({count for _, count in parts.values()})
    if len(counts) > 1:
        raise DataError(folder, f"parts of {name} out of {counts[0]} and out of {counts[1]}", "Leave those of one set")
    by_number = {number: path for path, (number, _) in parts.items()}
    for number in range(counts[0]):
        if number not in by_number:
            width = len(_PART.fullmatch(next(iter(parts)).name.removeprefix(name))[1])  # type: ignore[index]
            lacking = f"{name}-{number:0{width}d}-of-{counts[0]:0{width}d}.npy"
            raise MissingFileError(folder, f"file missing: {lacking}", f"Put it into the folder {folder}")
    return [by_number[number] for number in range(counts[0])]


def _names(folder: Path) -> tuple[str, ...] | None:
    """Names of the arrays in ``folder``: pictures and labels, of both parts or of one."""

    def there(name: str) -> bool:
        return (folder / f"{name}.npy").is_file() or any(folder.glob(f"{name}-*-of-*.npy"))

    return next((names for names in (*PARTS, *WHOLE) if all(map(there, names))), None)


def _store(folder: Path, name: str) -> PictureStore:
    files = [PixelFile(path) for path in _files(folder, name)]
    return files[0] if len(files) == 1 else PixelShards(files)


@layout(
    "arrays",
    "x_train.npy, y_train.npy, x_test.npy, y_test.npy, or images.npy and labels.npy",
    lambda path: path.is_dir() and _names(path) is not None,
)
def load_arrays(
    folder: Path,
    *,
    name: str = "",
    classes: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Labelled] | Dataset[LabelledOnDisk]:
    """uint8 pictures, (n, h, w), (n, c, h, w) or (n, h, w, c), and labels, numbers or names.

    An array may be in parts, ``x_train-00000-of-00020.npy`` and so on, of which none may lack. Above ``memory_limit``
    bytes of pictures, or with ``in_memory=False``, they are read while training. With images and labels alone
    ``test_fraction`` of every class is set aside by ``seed``. DataError, naming the file, for all else.
    """
    name = name or folder.resolve().name
    names = _names(folder)
    if names is None:
        raise MissingFileError(folder, "file missing: x_train.npy", f"Put it into the folder {folder}")
    stores = [_store(folder, each) for each in names[::2]]
    needed = sum(store.bytes for store in stores)
    if in_memory is None:
        in_memory = needed <= memory_limit
        if not in_memory:
            _log.warning("%s: %.1f GiB of pictures are read while training", folder, needed / 2**30)
    elif in_memory and needed > memory_limit:
        told = f"{needed / 2**30:.1f} GiB of pictures, more than memory_limit = {memory_limit / 2**30:.1f} GiB"
        raise DataError(folder, told, "Choose a higher limit, or in_memory=False")
    labels: dict[str, Labels] = {
        each: numpy.concatenate([_labels(path) for path in _files(folder, each)]) for each in names[1::2]
    }
    with naming(folder):
        numbers, known = class_numbers(labels, classes)
        on_disk = [LabelledOnDisk(store, own, known) for store, own in zip(stores, numbers, strict=True)]
        parts = on_disk if len(on_disk) == 2 else stratified_split(on_disk[0], test_fraction, seed)
        if not in_memory:
            return Dataset(name, parts[0], parts[1])
        return Dataset(name, parts[0].in_memory(), parts[1].in_memory())


def _labels(path: Path) -> numpy.ndarray:
    try:
        labels: numpy.ndarray = numpy.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, f"not a readable .npy file, or damaged ({error})") from error
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
