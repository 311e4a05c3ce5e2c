"""Boxes as COCO has them (Lin et al., "Microsoft COCO: common objects in context", 2014): one JSON file a part.

annotations/instances_train2017.json  train2017/000000000009.jpg …
train/_annotations.coco.json  train/a.jpg …  test/_annotations.coco.json …          also
annotations.json  a.jpg …                                                           also
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.data.catalog import layout
from convscope.data.choosing import class_list, set_aside
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_bytes
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.boxes import Boxes
from convscope.data.left_out import LeftOut
from convscope.data.marked import Box, BoxOptions, Marked, boxes_of
from convscope.errors import DataError

_BESIDE = "_annotations.coco.json"
_ALONE = (_BESIDE, "annotations.json")  # one file with all pictures beside it
_TRAIN, _TEST = ("train",), ("test", "val", "valid", "validation")


def _recognised(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".json"
    return path.is_dir() and bool(_files(path))


@layout(
    "coco",
    "a COCO .json file, or a folder with annotations/*.json, train/_annotations.coco.json or annotations.json",
    _recognised,
)
def load_coco(
    path: Path,
    *,
    name: str = "",
    images: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Boxes]:
    """The pictures of COCO files with their boxes; of a folder its training file and its test or validation file.

    Of one file alone ``test_fraction`` of the pictures is set aside by ``seed``. Pictures are looked for beside the
    file, in the folder named as the file is (train2017 of instances_train2017.json), in images/, or in ``images``.
    ``classes`` keeps boxes of these names, in this order; left out: the file's categories in the order of their
    numbers. Pictures whose longer side has more than ``longest`` pixels are scaled down with their boxes. Crowds
    (iscrowd) are marked difficult. What cannot be used is left out, counted and said; DataError for a file that is no
    COCO file, or where nothing can be used.
    """
    name = name or path.resolve().stem
    left_out = LeftOut()
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise MissingFileError(path, "file missing: annotations/*.json", f"Put it into the folder {path}")
    contents = [_read(file) for file in files]
    names = [_categories(file, content) for file, content in zip(files, contents, strict=True)]
    if len(files) == 2 and list(names[0].values()) != list(names[1].values()):
        raise DataError(files[1], "its categories are not those of the training file")
    parts = [
        _marked(file, content, own, None if images is None else Path(images), left_out)
        for file, content, own in zip(files, contents, names, strict=True)
    ]
    if len(parts) == 1:
        parts = list(set_aside(parts[0], test_fraction, seed))
    wanted = class_list(classes) or tuple(names[0].values())
    folder = path.parent if path.is_file() else path
    options = BoxOptions(wanted, longest, channels, in_memory, memory_limit)
    with naming(path):
        return Dataset(name, *boxes_of(parts, name, folder, options, left_out))


def _files(folder: Path) -> list[Path]:
    """The training file and, where there is one, the test file; those of boxes ("instances") before others."""
    beside = [folder / part / _BESIDE for part in (*_TRAIN, *_TEST)]
    found = [path for path in beside if path.is_file()]
    if not found:
        found = sorted((folder / "annotations").glob("*.json"))
        found.sort(key=lambda path: "instances" not in path.stem)
    if not found:
        return [folder / name for name in _ALONE if (folder / name).is_file()][:1]
    train = [path for path in found if _is_part(path, _TRAIN)]
    test = [path for path in found if path not in train and _is_part(path, _TEST)]
    return train[:1] + test[:1] if train else found[:1]


def _is_part(path: Path, names: tuple[str, ...]) -> bool:
    text = path.parent.name if path.name == _BESIDE else path.stem
    return any(name in text for name in names)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise DataError(path, f"not a COCO file: wanted lists of {', '.join(_LISTS)}")
    return content


_LISTS = ("images", "annotations", "categories")


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    """Names by number, in the order of the numbers."""
    try:
        names = {int(each["id"]): str(each["name"]) for each in content["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"a category without id or name ({error})") from error
    if not names or len(set(names.values())) != len(content["categories"]):
        raise DataError(path, "no categories, or two of one name or number")
    return dict(sorted(names.items()))


def _marked(
    file: Path, content: dict[str, Any], names: Mapping[int, str], images: Path | None, left_out: LeftOut
) -> list[Marked]:
    """The pictures of one file, in its order."""
    pictures: dict[Any, dict[str, Any]] = {}
    for each in content["images"]:
        if not isinstance(each, dict) or "id" not in each or not isinstance(each.get("file_name"), str):
            left_out.note("pictures without id or file name", file.name)
            continue
        pictures[each["id"]] = each
    boxes: dict[Any, list[Box]] = {key: [] for key in pictures}
    for each in content["annotations"]:
        try:
            owner, category = each["image_id"], names[int(each["category_id"])]
            x, y, width, height = (float(value) for value in each["bbox"])
            found = Box(category, (x, y, x + width, y + height), bool(each.get("iscrowd", 0)))
            boxes[owner].append(found)
        except (KeyError, TypeError, ValueError, AttributeError):
            left_out.note("annotations without a known picture, category or box", file.name)
    folder = _folder(file, next(iter(pictures.values()), {"file_name": ""})["file_name"], images)
    marked: list[Marked] = []
    for key, each in pictures.items():
        height, width = (side if isinstance(side, int) else 0 for side in (each.get("height"), each.get("width")))
        size = (height, width) if height and width else None
        marked.append(Marked(folder / each["file_name"], tuple(boxes[key]), size))
    return marked


def _folder(file: Path, picture: str, images: Path | None) -> Path:
    """Where the pictures lie: the first of the usual places that has the first of them."""
    part, beside, above = file.stem.rpartition("_")[2], file.parent, file.parent.parent
    usual = [beside, above / part, above / "images" / part, above / "images", beside / "images", above]
    places = [images] if images is not None else usual
    return next((place for place in places if picture and (place / picture).is_file()), places[0])
