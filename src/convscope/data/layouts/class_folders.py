"""Data sets of picture files: a folder for each class, all the pictures of a class in its folder.

    flowers/rose/1.jpg  flowers/rose/2.jpg  flowers/tulip/a.png …

or the same below flowers/train/ and flowers/test/ (or val/, valid/, validation/). Class folders sorted by name give the
class numbers. Pictures of different sizes are brought to one size as they are loaded.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from convscope.data.catalog import layout
from convscope.data.choosing import class_list, draw_per_class
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, readable
from convscope.data.keeping import MEMORY_LIMIT, kept
from convscope.data.kinds.labelled import stratified_places
from convscope.data.kinds.labelled_on_disk import LabelledOnDisk
from convscope.data.picture_stores import PictureFiles
from convscope.data.pictures import find_pictures, is_picture, probe_picture
from convscope.data.shaping import Shaping
from convscope.errors import ArgumentError, DataError
from convscope.shapes import pair
from convscope.spec import Fit

_TEST_NAMES = ("test", "val", "valid", "validation")
_LARGEST_DEFAULT = 256  # where sizes differ and none is asked for


@dataclasses.dataclass(frozen=True)
class _Files:
    """Picture files of one part with their class numbers."""

    paths: list[Path]
    labels: list[int]

    def select(self, indices: Sequence[int]) -> _Files:
        return _Files([self.paths[index] for index in indices], [self.labels[index] for index in indices])


@layout(
    "class folders",
    "a folder of pictures for each class, also below train/ and test/ (val/, valid/, validation/)",
    recognises=Path.is_dir,
    last=True,
)
def load_folder(
    folder: Path,
    *,
    name: str = "",
    classes: str | Sequence[str] | None = None,
    subsets: Mapping[str, tuple[str, ...]] | None = None,
    exclude: Sequence[str] = (),
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit = "resize",
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Any]:
    """The pictures below ``folder``, decoded and brought to one ``size`` (height, width) and number of ``channels``.

    ``size`` left out: the pictures' own where they agree, else the median height and width, at most 256. ``channels``
    left out: 1 where all files are grey, else 3. Without a test folder ``test_fraction`` of every class is set aside,
    or exactly ``train_per_class`` and ``test_per_class`` pictures of each are drawn, by ``seed``. ``classes`` keeps
    these class folders, in this order. Above ``memory_limit`` bytes of pixels, or with ``in_memory=False``, pictures
    are read while training.

    Raises MissingFileError for a missing folder; DataError for an empty folder, pictures beside class folders, a class
    without pictures, an unreadable picture (named), or with ``in_memory=True`` more than ``memory_limit`` bytes.
    """
    if fit not in get_args(Fit):
        raise ArgumentError("fit", fit, f"one of {', '.join(get_args(Fit))}")
    if channels not in (None, 1, 3):
        raise ArgumentError("channels", channels, "1 (grey) or 3 (colour)")
    counts = _counts(train_per_class, test_per_class)
    train, test, shown = _listed(folder, class_list(classes, subsets), exclude)
    if counts is not None:
        if test is not None:
            own = f"a folder without its own {_parts(folder)[1]} folder"
            raise ArgumentError("train_per_class", train_per_class, own)
        drawn, held = draw_per_class(train.labels, shown, counts, seed)
        train, test = train.select(drawn), train.select(held)
    name = name or readable(folder.resolve().name)
    paths = train.paths + (test.paths if test else [])
    labels = torch.tensor(train.labels + (test.labels if test else []), dtype=torch.int64)
    shape = _common_shape(paths, None if size is None else pair(size, "size"), channels)
    shaping = Shaping(shape[0], shape[1:], fit)
    files = PictureFiles(paths, shape[0], torch.tensor([shape[1:]]).repeat(len(paths), 1), shaping.read)
    store = kept(files, name, folder, in_memory, memory_limit, shape=shape, fit=fit)
    with naming(folder):
        if test is None:
            places = stratified_places(labels, len(shown), test_fraction, seed)
        else:
            everything = torch.arange(len(paths))
            places = everything[: len(train.paths)], everything[len(train.paths) :]
        parts = [LabelledOnDisk(store.select(each), labels[each], shown) for each in places]
        return Dataset(name, *(part if store.on_disk else part.in_memory() for part in parts))


def _listed(
    folder: Path, classes: tuple[str, ...] | None, exclude: Sequence[str]
) -> tuple[_Files, _Files | None, tuple[str, ...]]:
    """Files to train on, those to test with where they have a folder of their own, and the class names."""
    if not folder.is_dir():
        raise MissingFileError(folder, "no such folder", "Put a folder of pictures for each class into it")
    train_folder, test_folder = _parts(folder)
    names = _class_folders(train_folder, classes, exclude)
    train, test = _list_files(train_folder, names), None
    if test_folder is not None:
        test = _list_files(test_folder, names, _class_folders(test_folder, None, exclude, least=1))
    return train, test, tuple(map(readable, names))


def _counts(train_per_class: int | None, test_per_class: int | None) -> tuple[int, int] | None:
    if train_per_class is None and test_per_class is None:
        return None
    for argument, value in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(argument, value, "an integer ≥ 1; train_per_class and test_per_class go together")
    return train_per_class, test_per_class  # type: ignore[return-value]


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """(training folder, test folder or None)."""
    if not (folder / "train").is_dir():
        return folder, None
    test = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
    strays = [path.name for path in _folders(folder) if path.name not in ("train", *_TEST_NAMES)]
    return (folder, None) if strays else (folder / "train", test)  # then "train" is a class: buses, ships, trains …


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_folders(
    folder: Path, wanted: tuple[str, ...] | None, exclude: Sequence[str], least: int = 2
) -> tuple[str, ...]:
    """Names of the class folders of ``folder``; DataError where it is not laid out so."""
    found = [path.name for path in _folders(folder) if path.name not in exclude]
    loose = find_pictures(folder)
    if loose and found:
        raise DataError(
            folder, f"pictures beside class folders: {loose[0].name} beside {found[0]}", "Move them into class folders"
        )
    if not found:
        problem = f"{len(loose)} pictures but no class folders" if loose else "empty: no class folders with pictures"
        raise DataError(folder, problem, "Put the pictures of each class into a folder named after the class")
    if wanted is not None:
        folders = {readable(name): name for name in found} | {name: name for name in found}
        for name in wanted:
            if name not in folders:
                raise ArgumentError("classes", name, f"folders in {folder}: {', '.join(map(readable, found[:12]))}")
        if not wanted or len(set(wanted)) != len(wanted):
            raise ArgumentError("classes", wanted, "at least one class name, each once")
        return tuple(folders[name] for name in wanted)
    if len(found) < least:
        raise DataError(folder, f"only one class folder, {found[0]}", f"Perhaps {folder / found[0]} is meant")
    return tuple(found)


def _list_files(folder: Path, names: tuple[str, ...], present: tuple[str, ...] | None = None) -> _Files:
    """Files of the classes ``names``; ``present`` are the class folders of a test part, which may lack some."""
    if present is not None:
        unknown = [name for name in present if not (folder.parent / "train" / name).is_dir()]
        if unknown:
            raise DataError(folder / unknown[0], "a class that the train folder does not have")
    paths: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(names):
        if present is not None and name not in present:
            continue
        pictures = find_pictures(folder / name)
        if not pictures:
            deeper = any(is_picture(path) for path in (folder / name).glob("*/*"))
            raise DataError(
                folder / name, "no pictures in this class folder",
                "Pictures in folders below it are not looked at" if deeper else "Remove the folder or fill it",
            )  # fmt: skip
        paths += pictures
        labels += [number] * len(pictures)
    return _Files(paths, labels)


def _common_shape(files: Sequence[Path], size: tuple[int, int] | None, channels: int | None) -> tuple[int, int, int]:
    """(channels, height, width) that all pictures are brought to."""
    if size is not None and channels is not None:
        return channels, *size
    shapes = [probe_picture(path) for path in files]
    if channels is None:
        channels = max(shape[0] for shape in shapes)
    if size is None:
        heights, widths = [shape[1] for shape in shapes], [shape[2] for shape in shapes]
        if len(set(heights)) == len(set(widths)) == 1:
            size = heights[0], widths[0]
        else:
            size = (
                min(_LARGEST_DEFAULT, round(statistics.median(heights))),
                min(_LARGEST_DEFAULT, round(statistics.median(widths))),
            )
    return channels, *size
