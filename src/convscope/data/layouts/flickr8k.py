"""Flickr8k as it was published (Hodosh, Young, Hockenmaier 2013): five captions a picture, in lists of their own.

Flicker8k_Dataset/1000268201_693b08cb0e.jpg …
Flickr8k.token.txt:            1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress is climbing up the stairs .
Flickr_8k.trainImages.txt:     1000268201_693b08cb0e.jpg
Flickr_8k.testImages.txt, Flickr_8k.devImages.txt
"""

from __future__ import annotations

import re
from pathlib import Path

from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, read_lines
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.captions import Captions
from convscope.data.layouts.captions import Captioned, Keeping, put_together
from convscope.data.left_out import LeftOut
from convscope.data.pictures import is_picture, probe_picture
from convscope.data.vocabulary import Cut, Vocabulary
from convscope.errors import ArgumentError, DataError

_TOKENS = "Flickr8k.token.txt"
_LISTS = {part: f"Flickr_8k.{part}Images.txt" for part in ("train", "dev", "test")}
_TEXTS = (".", "Flickr8k_text")  # the published archive of texts has no folder of its own; people give it one
_PICTURES = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")  # the first spelling is the published one
_LINE = re.compile(r"([^\t#]+)#(\d+)\t(.*)")


def _texts_of(folder: Path) -> Path | None:
    return next((folder / each for each in _TEXTS if (folder / each / _TOKENS).is_file()), None)


@layout(
    "flickr8k",
    "Flickr8k.token.txt with lists of pictures beside it, pictures in Flicker8k_Dataset/",
    lambda path: path.is_dir() and _texts_of(path) is not None,
)
def load_flickr8k(
    folder: Path,
    *,
    name: str = "",
    test: str = "test",
    cut: Cut = "words",
    lower: bool = True,
    least: int = 5,
    most: int | None = None,
    longest: int | None = 256,
    channels: int | None = 3,
    encoding: str = "utf-8",
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Captions]:
    """The pictures of the published lists of training and of ``test`` ("test" or "dev"), each with all its captions.

    Words that come less than ``least`` times in the training captions are unknown. Pictures whose longer side has more
    than ``longest`` pixels are scaled down. A picture of a list that is not there, cannot be opened, or has no caption
    is left out, counted and said, with its line. DataError, naming the line, for a caption that is not
    name#number, tab, text, or comes twice, and for another encoding; and where nothing is left.
    """
    if test not in ("test", "dev"):
        raise ArgumentError("test", test, "test or dev")
    texts = _texts_of(folder)
    if texts is None:
        raise MissingFileError(folder, f"file missing: {_TOKENS}", f"Put it into the folder {folder}")
    pictures = next((folder / each for each in _PICTURES if (folder / each).is_dir()), None)
    if pictures is None:
        raise MissingFileError(folder, f"folder missing: {_PICTURES[0]}", f"Put it into the folder {folder}")
    captions = _captions(texts / _TOKENS, encoding)
    parts = [_part(texts / _LISTS[part], pictures, captions, encoding) for part in ("train", test)]
    keeping = Keeping(name or folder.resolve().name, folder, channels, longest, in_memory, memory_limit)
    return put_together(parts, keeping, lambda known: Vocabulary.build(known, least, most, cut=cut, lower=lower))


def _captions(path: Path, encoding: str) -> dict[str, dict[int, str]]:
    """The captions of every picture, by their numbers."""
    found: dict[str, dict[int, str]] = {}
    for number, line in enumerate(read_lines(path, encoding), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(path, f"line {number} is not a picture's name, # and a number, a tab, a caption")
        picture, which, text = match[1].strip(), int(match[2]), match[3].strip()
        if not text:
            raise DataError(path, f"line {number} has no caption behind its tab")
        if which in found.setdefault(picture, {}):
            raise DataError(path, f"line {number} gives caption {which} of {picture} a second time")
        found[picture][which] = text
    return found


def _part(path: Path, pictures: Path, captions: dict[str, dict[int, str]], encoding: str) -> list[Captioned]:
    """The pictures of one list with their captions, in the list's order."""
    if not path.is_file():
        raise MissingFileError(path.parent, f"file missing: {path.name}", f"Put it into the folder {path.parent}")
    left_out = LeftOut()
    found: list[Captioned] = []
    for number, line in enumerate(read_lines(path, encoding), 1):
        name = line.strip()
        if not name:
            continue
        picture = pictures / name
        if Path(name).name != name or not is_picture(picture):
            left_out.note("missing pictures", f"line {number}: {name}")
        elif name not in captions:
            left_out.note("pictures without captions", f"line {number}: {name}")
        else:
            try:
                probe_picture(picture)
            except DataError as error:
                left_out.note(f"unreadable pictures ({error.problem})", f"line {number}: {name}")
                continue
            found.append((picture, [captions[name][which] for which in sorted(captions[name])]))
    left_out.say(path)
    if not found:
        raise DataError(path, "no picture that is there and has captions", "Wanted names of picture files, one a line")
    return found
