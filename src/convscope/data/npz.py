"""Data sets in a NumPy .npz file: x_train, y_train, x_test, y_test, or images and labels. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy

from convscope.data.dataset import Dataset
from convscope.data.files import naming
from convscope.errors import DataError

_WHOLE = (("images", "labels"), ("x", "y"))
_PARTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
_CLASS_NAMES = ("classes", "class_names")


def load_npz(path: Path, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """uint8 pictures and integer labels under the names above; ``classes`` in the file names the classes.

    Shapes as ``Dataset.from_arrays`` takes them; labels may be (n,) or (n, 1). With images and labels alone,
    ``test_fraction`` of every class is set aside by ``seed``. Raises DataError, naming the file, for anything else.
    """
    arrays = _read(path)
    names = next((arrays[key] for key in _CLASS_NAMES if key in arrays), None)
    if names is not None and (names.dtype.kind != "U" or names.ndim != 1):
        raise DataError(path, f"classes: {names.dtype} {names.shape}, wanted a list of names")
    classes = None if names is None else [str(name) for name in names]
    for keys in (*_PARTS, *_WHOLE):
        if all(key in arrays for key in keys):
            parts = [arrays[key] for key in keys]
            break
    else:
        raise DataError(
            path, f"arrays {', '.join(sorted(arrays)) or '(none)'}, wanted {', '.join(_PARTS[0])}, or images and labels"
        )
    for place in range(1, len(parts), 2):
        if parts[place].ndim == 2 and parts[place].shape[1] == 1:
            parts[place] = parts[place][:, 0]
    with naming(path):
        return Dataset.from_arrays(*parts, classes=classes, test_fraction=test_fraction, seed=seed, name=path.stem)


def _read(path: Path) -> dict[str, numpy.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError(path, "not an .npz file, or cut short", "Write it with numpy.savez")
    try:
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # of a damaged file zipfile, zlib and numpy raise nearly anything
        if isinstance(error, ValueError) and "pickle" in str(error):
            raise DataError(path, "holds Python objects, which are never unpickled", "Save plain arrays") from error
        raise DataError(path, f"not a readable .npz file, or damaged ({error})") from error
