"""Data sets in a NumPy .npz file: x_train, y_train, x_test, y_test, or images and labels. Nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy
from numpy.lib import format as npy

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import UNPACKED_LIMIT, naming
from convscope.data.kinds.labelled import Labelled
from convscope.errors import DataError

WHOLE = (("images", "labels"), ("x", "y"))
PARTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
_CLASS_NAMES = ("classes", "class_names")
_LONGEST_HEADER = 10_000  # bytes of an array's own header, numpy's limit


@layout(
    "npz", "an .npz file with x_train, y_train, x_test, y_test, or images and labels",
    lambda path: path.is_file() and path.suffix == ".npz",
)  # fmt: skip
def load_npz(path: Path, test_fraction: float = 0.2, seed: int = 0, limit: int = UNPACKED_LIMIT) -> Dataset[Labelled]:
    """uint8 pictures and labels under the names above; ``classes`` in the file names the classes.

    Shapes as ``Dataset.from_arrays`` takes them; labels may be (n,) or (n, 1), numbers or names. With images and labels
    alone, ``test_fraction`` of every class is set aside by ``seed``. Raises DataError, naming the file, for anything
    else, and for arrays that unpack to more than ``limit`` bytes, before they are unpacked.
    """
    arrays = _read(path, limit)
    names = next((arrays[key] for key in _CLASS_NAMES if key in arrays), None)
    if names is not None and (names.dtype.kind != "U" or names.ndim != 1):
        raise DataError(path, f"classes: {names.dtype} {names.shape}, wanted a list of names")
    classes = None if names is None else [str(name) for name in names]
    keys = _wanted(path, arrays)
    parts = [arrays[key] for key in keys]
    for place in range(1, len(parts), 2):
        if parts[place].ndim == 2 and parts[place].shape[1] == 1:
            parts[place] = parts[place][:, 0]
    with naming(path):
        return Dataset.from_arrays(*parts, classes=classes, test_fraction=test_fraction, seed=seed, name=path.stem)


def _wanted(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    known = list(names)
    for keys in (*PARTS, *WHOLE):
        if all(key in known for key in keys):
            return keys
    raise DataError(
        path, f"arrays {', '.join(sorted(known)) or '(none)'}, wanted {', '.join(PARTS[0])}, or images and labels"
    )


def _read(path: Path, limit: int) -> dict[str, numpy.ndarray]:
    """The arrays that a data set is made of; others in the file are left alone."""
    try:
        if not zipfile.is_zipfile(path):  # it raises as well, for an archive that says it goes on on another disk
            raise DataError(path, "not an .npz file, or cut short", "Write it with numpy.savez")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [*_wanted(path, members), *(key for key in _CLASS_NAMES if key in members)]
            total = sum(members[key].file_size for key in wanted)
            if total > limit:
                raise DataError(path, f"unpacks to {total:,} bytes, more than the limit of {limit:,}", "Choose fewer")
            return {key: _array(path, archive, members[key]) for key in wanted}
    except DataError:
        raise
    except Exception as error:  # of a damaged file zipfile, zlib and numpy raise nearly anything
        raise DataError(path, f"not a readable .npz file, or damaged ({error})") from error


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> numpy.ndarray:
    """One array, after its header was compared with how many bytes there are: numpy reserves what the header says."""
    with archive.open(info) as file:
        shape, dtype, start = _header(file)
    if dtype.hasobject:
        raise DataError(path, "holds Python objects, which are never unpickled", "Save plain arrays")
    length = math.prod(shape) * dtype.itemsize
    if start + length != info.file_size:
        told = f"{' × '.join(map(str, shape))} of {dtype} = {length:,} bytes"
        raise DataError(path, f"{info.filename}: its header says {told}, there are {info.file_size - start:,}")
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], numpy.dtype, int]:
    """Shape, type, and where the numbers begin."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file, max_header_size=_LONGEST_HEADER)
    return shape, dtype, file.tell()
