"""Boxes as Pascal VOC lays them out (Everingham et al., "The Pascal visual object classes challenge", 2010).

    JPEGImages/2007_000027.jpg  Annotations/2007_000027.xml  ImageSets/Main/trainval.txt …

An annotation counts pixels from 1 and names the first and the last one in the box; ours has the left edge of the first
pixel as 0 and the right edge of the last one, so 1 is taken from xmin and ymin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from convscope.data.catalog import layout
from convscope.data.choosing import class_list, set_aside
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_bytes, read_lines
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.boxes import Boxes
from convscope.data.left_out import LeftOut
from convscope.data.marked import Box, BoxOptions, Marked, boxes_of
from convscope.data.pictures import find_pictures
from convscope.errors import DataError

_PICTURES, _ANNOTATIONS, _SETS = "JPEGImages", "Annotations", "ImageSets/Main"
_TRAIN, _TEST = ("trainval", "train"), ("test", "val")


@layout(
    "pascal voc",
    "JPEGImages/ and Annotations/ with an XML file for each picture (Pascal VOC), perhaps ImageSets/Main/",
    lambda path: (path / _ANNOTATIONS).is_dir() and (path / _PICTURES).is_dir(),
)
def load_voc(
    folder: Path,
    *,
    name: str = "",
    train: str | None = None,
    test: str | None = None,
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Boxes]:
    """The pictures of the lists ``train`` and ``test`` (files in ImageSets/Main without their .txt) with their boxes.

    Left out, ``train`` is trainval, or train where there is no annotated test list; ``test`` is test, or val. Without
    lists ``test_fraction`` of all pictures is set aside by ``seed``. ``classes`` keeps boxes of these names, in this
    order; left out: all, sorted. Pictures whose longer side has more than ``longest`` pixels are scaled down with their
    boxes. Objects marked difficult keep that mark. What cannot be used is left out, counted and said; DataError where
    nothing can be.
    """
    name = name or folder.resolve().name
    for part in (_PICTURES, _ANNOTATIONS):
        if not (folder / part).is_dir():
            raise MissingFileError(folder, f"folder missing: {part}", f"Put it into the folder {folder}")
    left_out = LeftOut()
    pictures = {path.stem: path for path in find_pictures(folder / _PICTURES)}
    lists = _lists(folder, train, test)
    if lists is None:
        stems = sorted({path.stem for path in (folder / _ANNOTATIONS).glob("*.xml")})
        lists = set_aside(stems, test_fraction, seed)
    parts = [[_marked(folder, stem, pictures, left_out) for stem in each] for each in lists]
    options = BoxOptions(class_list(classes), longest, channels, in_memory, memory_limit)
    usable = [[marked for marked in part if marked is not None] for part in parts]
    with naming(folder):
        return Dataset(name, *boxes_of(usable, name, folder, options, left_out))


def _lists(folder: Path, train: str | None, test: str | None) -> tuple[list[str], list[str]] | None:
    """Names of the pictures to train on and to test with; None where the folder has no lists and none was asked for."""
    place = folder / _SETS
    if train is None and test is None and not any((place / f"{each}.txt").is_file() for each in _TRAIN):
        return None
    test = test or next((each for each in _TEST if _annotated(folder, each)), None)
    if test is None:
        raise DataError(place, "no list test.txt or val.txt of annotated pictures", "Name one with test=")
    if train is None:
        both = test != "val" and (place / "trainval.txt").is_file()
        train = "trainval" if both or not (place / "train.txt").is_file() else "train"
    lists = _names(place / f"{train}.txt"), _names(place / f"{test}.txt")
    shared = sorted(set(lists[0]) & set(lists[1]))
    if shared:
        raise DataError(place, f"{len(shared)} pictures are in both {train}.txt and {test}.txt: {shared[0]}, …")
    return lists


def _annotated(folder: Path, part: str) -> bool:
    """Whether pictures of this list have annotations: those of the challenges' last test sets were never published."""
    path = folder / _SETS / f"{part}.txt"
    return path.is_file() and any((folder / _ANNOTATIONS / f"{stem}.xml").is_file() for stem in _names(path)[:100])


def _names(path: Path) -> list[str]:
    """A name a line; what follows it (1 or −1 in the lists of a single class) is not looked at."""
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.txt"))) or "none"
        raise DataError(path, "no such list of pictures", f"There are: {known}")
    return [line.split()[0] for line in read_lines(path) if line.strip()]


def _marked(folder: Path, stem: str, pictures: dict[str, Path], left_out: LeftOut) -> Marked | None:
    path = folder / _ANNOTATIONS / f"{stem}.xml"
    if not path.is_file():
        left_out.note("pictures without annotation", stem)
        return None
    try:
        size, boxes = read_annotation(read_bytes(path))
    except (ElementTree.ParseError, DataError, ValueError) as error:
        left_out.note(f"broken annotations ({error})", path.name)
        return None
    return Marked(pictures.get(stem, folder / _PICTURES / f"{stem}.jpg"), boxes, size)


def read_annotation(content: bytes) -> tuple[tuple[int, int] | None, tuple[Box, ...]]:
    """(height, width) where it is given, and the boxes. ElementTree.ParseError or ValueError where it is broken."""
    root = ElementTree.fromstring(content)
    height, width = (int(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))
    boxes: list[Box] = []
    for thing in root.findall("object"):
        edges = thing.find("bndbox")
        name = (thing.findtext("name") or "").strip()
        if edges is None or not name:
            raise ValueError("an object without a name or a box")
        x1, y1, x2, y2 = (_number(edges, each) for each in ("xmin", "ymin", "xmax", "ymax"))
        # one pixel wide or high is how an annotator's slip looks, and no thing to be found
        corners = (x1 - 1, y1 - 1, x2, y2) if x1 < x2 and y1 < y2 else (x1, y1, x1, y1)
        boxes.append(Box(name, corners, (thing.findtext("difficult") or "0").strip() == "1"))
    return (height, width) if height and width else None, tuple(boxes)


def _number(parent: ElementTree.Element, name: str) -> float:
    text = parent.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {text}")
    return value
