"""Pictures beside maps of classes: two folders with files of the same names.

    train/images/a.jpg  train/labels/a.png …  test/images/…  test/labels/…
    images/a.jpg  labels/a.png …                                                        or all in one

A map is a grey or palette PNG whose values are class numbers. ``classes.txt`` may name the classes, one a line.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from convscope.data.catalog import layout
from convscope.data.choosing import class_list, set_aside
from convscope.data.dataset import Dataset
from convscope.data.decoded import DECODED_FOLDER, cached, fingerprint_of, home_cache
from convscope.data.files import MissingFileError, naming, read_names
from convscope.data.keeping import MEMORY_LIMIT, kept
from convscope.data.kinds.maps import IGNORED, Maps, Palette, count_values
from convscope.data.left_out import LeftOut
from convscope.data.picture_stores import PictureFiles, PictureStore
from convscope.data.pictures import find_pictures, load_numbers, palette_of, probe_picture
from convscope.data.shaping import Shaping
from convscope.errors import ArgumentError, DataError

_PICTURES, _MAPS = ("images", "JPEGImages"), ("labels", "masks", "annotations", "SegmentationClass")
_TEST_NAMES = ("test", "val", "valid", "validation")
_NAMED = 5
_log = logging.getLogger("convscope.data")
Pair = tuple[Path, Path]  # a picture and its map
Sized = tuple[Pair, tuple[int, int, int]]  # with the picture's channels, height, width


def _inner(folder: Path) -> tuple[Path, Path] | None:
    """The folders of pictures and of maps directly in ``folder``."""
    pictures = next((folder / name for name in _PICTURES if (folder / name).is_dir()), None)
    maps = next((folder / name for name in _MAPS if (folder / name).is_dir()), None)
    return None if pictures is None or maps is None else (pictures, maps)


def _recognised(path: Path) -> bool:
    inner = _inner(path) or _inner(path / "train")
    boxes = (path / "Annotations").is_dir()  # Pascal VOC has both; it is taken for its boxes
    return inner is not None and not boxes and any(each.suffix.lower() == ".png" for each in inner[1].iterdir())


@layout(
    "maps",
    "images/ and labels/ (or masks/) with a PNG of class numbers for each picture, also below train/ and test/",
    _recognised,
)
def load_maps(
    folder: Path,
    *,
    name: str = "",
    test: str | None = None,
    classes: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    palette: Palette | None = None,
    ignored: int = IGNORED,
    longest: int | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Maps]:
    """Pictures and their maps; ``test`` names the folder of the test part (left out: test, val, …).

    ``names`` name the classes; left out: classes.txt, else numbers. ``classes`` keeps some of them, in this order; the
    pixels of all others become ``ignored``. ``palette`` gives colours; left out: that of the first map, where it has
    one. Pictures whose longer side has more than ``longest`` pixels are scaled down with their maps. Without a test
    folder ``test_fraction`` of all is set aside by ``seed``. A picture without a map, or the reverse, or of another
    size, is left out, counted and said. DataError for a map with a value that is no class, or where nothing is left.
    """
    name = name or folder.resolve().name
    left_out = LeftOut()
    found = [_sized(part, left_out) for part in _parts(folder, test, left_out)]
    if len(found) == 1 and found[0]:
        found = list(set_aside(found[0], test_fraction, seed))
    left_out.say(folder)
    if not all(found):
        raise DataError(folder, "no picture with a map in one of its parts", "Look at the warnings above")
    known = _known(folder, names)
    channels = channels or max(own[0] for part in found for _, own in part)
    reading = _Reading(Shaping(channels, longest=longest), ignored, known)
    everything = [pair for part in found for pair in part]
    pictures = kept(
        reading.pictures(everything), name, folder, in_memory, memory_limit, longest=longest, channels=channels
    )
    files = reading.maps(everything)
    try:
        maps = kept(files, f"{name}-maps", folder, not pictures.on_disk, memory_limit, longest=longest)
        histogram = _histogram(maps, files, name, folder, longest)
    except _NoClassError as error:
        raise reading.counted(error, everything) from None
    histogram[:, ignored] = 0
    known = known or _numbered(histogram, folder)
    palette = palette or palette_of(everything[0][0][1], len(known))
    with naming(folder):
        places = torch.split(torch.arange(len(everything)), [len(part) for part in found])
        made = [
            Maps(pictures.select(each), maps.select(each), known, ignored, palette, histogram[each, : len(known)])
            for each in places
        ]
        dataset = Dataset(name, made[0], made[1])
    chosen = class_list(classes)
    return dataset if chosen is None else dataset.restrict(chosen)


def _known(folder: Path, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names as given, or as classes.txt says; None where neither does."""
    if names is not None:
        return tuple(names)
    return read_names(folder / "classes.txt") if (folder / "classes.txt").is_file() else None


def _numbered(histogram: Tensor, folder: Path) -> tuple[str, ...]:
    """Names "0" … of all values up to the highest that there is; a gap among them is said, since it may be a slip."""
    pixels = histogram.sum(0)
    highest = int(torch.nonzero(pixels).max()) if histogram.any() else 0
    unused = [value for value in range(highest) if not pixels[value]]
    if unused:
        _log.warning(
            "%s: classes are numbered 0 … %d, since %d of the maps have that value (%d pixels), but no pixel has %s; "
            "classes.txt would name what there is",
            folder, highest, int((histogram[:, highest] > 0).sum()), int(pixels[highest]), _listed(unused),
        )  # fmt: skip
    return tuple(map(str, range(highest + 1)))


def _listed(values: Sequence[int]) -> str:
    """The first few of some values."""
    return ", ".join(map(str, values[:_NAMED])) + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")


class _NoClassError(DataError):
    """A map has a value that no class has."""


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How the files of pictures and maps are read."""

    shaping: Shaping
    ignored: int
    names: tuple[str, ...] | None

    def pictures(self, pairs: Sequence[Sized]) -> PictureFiles:
        paths = [pair[0] for pair, _ in pairs]
        return PictureFiles(paths, self.shaping.channels, self._sizes(pairs), self.shaping.read)

    def maps(self, pairs: Sequence[Sized]) -> PictureFiles:
        return PictureFiles([pair[1] for pair, _ in pairs], 1, self._sizes(pairs), self.read_map)

    def read_map(self, path: Path) -> Tensor:
        """uint8 (1, h, w); DataError for a value that is neither a class number nor ignored."""
        numbers = load_numbers(path)
        if self.names is not None:
            wrong = self._wrong(numbers)
            if len(wrong):
                wanted = f"0 … {len(self.names) - 1}, or {self.ignored} for what is ignored"
                raise _NoClassError(path, f"a pixel of value {int(wrong[0])}, wanted class numbers {wanted}")
        return self.shaping.shaped_map(numbers)

    def _wrong(self, numbers: Tensor) -> Tensor:
        """The pixels that have no class."""
        assert self.names is not None
        return numbers[(numbers >= len(self.names)) & (numbers != self.ignored)]

    def counted(self, error: _NoClassError, pairs: Sequence[Sized]) -> DataError:
        """The same error with how many maps and pixels there are of its kind, and their values."""
        found = [wrong for (_, path), _ in pairs if len(wrong := self._wrong(load_numbers(path)))]
        values = sorted({int(value) for wrong in found for value in torch.unique(wrong)})
        pixels = sum(len(wrong) for wrong in found)
        said = f"{pixels} pixels of {len(found)} maps have values without a class: {_listed(values)}"
        return DataError(error.path, error.problem, f"{said}. Name them in classes.txt, or make them {self.ignored}")

    def _sizes(self, pairs: Sequence[Sized]) -> Tensor:
        return torch.tensor([self.shaping.target(*own[1:]) for _, own in pairs], dtype=torch.int64).reshape(-1, 2)


def _parts(folder: Path, test: str | None, left_out: LeftOut) -> list[list[Pair]]:
    """The pairs below train/ and the test folder, or those of ``folder`` itself where it has pictures and maps."""
    if _inner(folder) is not None:
        if test is not None:
            raise ArgumentError("test", test, f"a folder with train/ and {test}/ in it")
        return [_pairs(folder, left_out)]
    if not (folder / "train").is_dir():
        raise MissingFileError(folder, "folder missing: train", f"Put train/ and test/ into the folder {folder}")
    test = test or next((name for name in _TEST_NAMES if (folder / name).is_dir()), "test")
    return [_pairs(folder / "train", left_out), _pairs(folder / test, left_out)]


def _pairs(folder: Path, left_out: LeftOut) -> list[Pair]:
    """Pictures with the maps of their names, sorted."""
    inner = _inner(folder)
    if inner is None:
        raise MissingFileError(folder, "folders missing: images and labels", f"Put them into the folder {folder}")
    maps = {path.stem: path for path in sorted(inner[1].glob("*.png"))}
    pictures = {path.stem: path for path in find_pictures(inner[0])}
    for stem in sorted(set(pictures) - set(maps)):
        left_out.note("pictures without a map", stem)
    for stem in sorted(set(maps) - set(pictures)):
        left_out.note("maps without a picture", stem)
    return [(pictures[stem], maps[stem]) for stem in pictures if stem in maps]


def _sized(pairs: Sequence[Pair], left_out: LeftOut) -> list[Sized]:
    """Those whose files can be opened and are of one size, with the picture's (channels, height, width)."""
    usable: list[Sized] = []
    for picture, numbers in pairs:
        try:
            own, other = probe_picture(picture), probe_picture(numbers)
        except DataError as error:
            left_out.note(f"unreadable files ({error.problem})", error.path.name)
            continue
        if own[1:] != other[1:]:
            left_out.note("maps of another size than their picture", numbers.name)
            continue
        usable.append(((picture, numbers), own))
    return usable


def _histogram(maps: PictureStore, files: PictureFiles, name: str, folder: Path, longest: int | None) -> Tensor:
    """int64 (n, 256): pixels of each value in each map; of maps on disk kept, since all must be decoded for it."""

    def count() -> dict[str, Tensor]:
        rows = [count_values(maps.picture(place)) for place in range(len(maps))]
        return {"counts": torch.stack(rows)}

    if not maps.on_disk:
        return count()["counts"]
    places = [folder / DECODED_FOLDER, home_cache(name)]
    return cached(f"{name}-histogram", places, fingerprint_of(files.paths, longest=longest), count)["counts"]
