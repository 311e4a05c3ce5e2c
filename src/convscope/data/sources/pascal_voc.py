"""Pascal VOC 2007 and 2012: things of twenty classes in photographs, with boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.boxes import Boxes
from convscope.data.layouts.pascal_voc import load_voc

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_PLACE = "http://host.robots.ox.ac.uk/pascal/VOC/"
_PAGE = "Everingham, Van Gool, Williams, Winn, Zisserman: The Pascal visual object classes challenge"


def _remote(year: int, name: str, checksum: str, inside: str) -> Remote:
    """An archive; ``inside`` is a file that it holds."""
    provides = (f"VOCdevkit/VOC{year}/{inside}", f"VOC{year}/{inside}", inside)
    return Remote(f"{name}.tar", (f"{_PLACE}voc{year}/{name}.tar",), f"md5:{checksum}", provides, unpack=True)


@register(
    "voc2007",
    Card(
        title="Pascal VOC 2007",
        year=2007,
        source=_PAGE,
        shape=None,
        classes=20,
        train=5_011,
        test=4_952,
        files="JPEGImages/, Annotations/, ImageSets/Main/, also in VOCdevkit/VOC2007/",
        note="Trained on trainval, tested with test.",
        kind="boxes",
    ),
    _remote(2007, "VOCtrainval_06-Nov-2007", "c52e279531787c972589f7e41ab4ae64", "ImageSets/Main/trainval.txt"),
    _remote(2007, "VOCtest_06-Nov-2007", "b6e924de25625d8de591ea690078ad9f", "ImageSets/Main/test.txt"),
)
def load_2007(
    folder: Path,
    train: str = "trainval",
    test: str = "test",
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Boxes]:
    """Options as ``load_voc``."""
    return _load(folder, 2007, train, test, classes, longest, in_memory, memory_limit)


@register(
    "voc2012",
    Card(
        title="Pascal VOC 2012",
        year=2012,
        source=_PAGE,
        shape=None,
        classes=20,
        train=5_717,
        test=5_823,
        files="JPEGImages/, Annotations/, ImageSets/Main/, also in VOCdevkit/VOC2012/",
        note="Trained on train, tested with val: the test set's boxes were never published.",
        kind="boxes",
    ),
    _remote(2012, "VOCtrainval_11-May-2012", "6cd6e144f989b92b3379bac3b3de84fd", "ImageSets/Main/train.txt"),
)
def load_2012(
    folder: Path,
    train: str = "train",
    test: str = "val",
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Boxes]:
    """Options as ``load_voc``."""
    return _load(folder, 2012, train, test, classes, longest, in_memory, memory_limit)


def _load(
    folder: Path,
    year: int,
    train: str,
    test: str,
    classes: str | Sequence[str] | None,
    longest: int | None,
    in_memory: bool | None,
    memory_limit: int,
) -> Dataset[Boxes]:
    inner = (folder / "VOCdevkit" / f"VOC{year}", folder / f"VOC{year}", folder)
    place = next((each for each in inner if (each / "Annotations").is_dir()), folder)
    for part in (train, test):
        if not (place / "ImageSets" / "Main" / f"{part}.txt").is_file():
            raise MissingFileError(place, f"file missing: ImageSets/Main/{part}.txt", f"Put it into the folder {place}")
    return load_voc(
        place,
        name=f"voc{year}",
        train=train,
        test=test,
        classes=CLASSES if classes is None else classes,
        longest=longest,
        channels=3,
        in_memory=in_memory,
        memory_limit=memory_limit,
    )
