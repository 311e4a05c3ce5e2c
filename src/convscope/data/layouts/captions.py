"""Pictures with captions: a file captions.txt, .tsv or .csv beside them, a caption a line.

captions.txt:  dog.jpg<TAB>A dog runs.        captions.csv:  image,caption
               dog.jpg<TAB>A brown dog.                      dog.jpg,"A dog runs."
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from convscope.data.catalog import layout
from convscope.data.choosing import set_aside
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_lines
from convscope.data.keeping import MEMORY_LIMIT, kept
from convscope.data.kinds.captions import Captions
from convscope.data.left_out import LeftOut
from convscope.data.picture_stores import PictureFiles
from convscope.data.pictures import is_picture, probe_picture
from convscope.data.shaping import Shaping
from convscope.data.vocabulary import Cut, Vocabulary
from convscope.errors import DataError

_NAMES = ("captions.txt", "captions.tsv", "captions.csv")
_TEST_NAMES = ("test", "val", "valid", "validation")
_PLACES = ("", "images", "Images")
Captioned = tuple[Path, list[str]]


def _list_of(folder: Path) -> Path | None:
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


@layout(
    "captions",
    "captions.txt (or .tsv, .csv) with a picture's name and a caption a line, pictures beside it or in images/",
    lambda path: path.is_dir() and (_list_of(path) or _list_of(path / "train")) is not None,
)
def load_captions(
    folder: Path,
    *,
    name: str = "",
    cut: Cut = "words",
    lower: bool = False,
    least: int = 1,
    most: int | None = None,
    longest: int | None = None,
    channels: int | None = None,
    encoding: str = "utf-8",
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Captions]:
    """The pictures that are named, each with all its captions, in the order in which they are first named.

    Lists below train/ and test/ (val/ …) are the two parts; of one list ``test_fraction`` of the pictures is set aside
    by ``seed``. The vocabulary is that of the training captions, cut as ``cut`` says ("characters" for lines of text).
    Pictures whose longer side has more than ``longest`` pixels are scaled down. A line without a caption, or whose
    picture is missing or cannot be opened, is left out, counted and said; DataError where nothing is left.
    """
    name = name or folder.resolve().name
    left_out = LeftOut()
    found = [_read(part, encoding, left_out) for part in _folders(folder)]
    left_out.say(folder)
    parts = found if len(found) == 2 else list(set_aside(found[0], test_fraction, seed))
    kept_as = Keeping(name, folder, channels, longest, in_memory, memory_limit)
    return put_together(parts, kept_as, lambda texts: Vocabulary.build(texts, least, most, cut=cut, lower=lower))


@dataclasses.dataclass(frozen=True)
class Keeping:
    """Under which ``name`` the pictures of a ``folder`` are kept, in which channels (None: the most that any has), of
    which size, and where: as ``load_captions`` has them."""

    name: str
    folder: Path
    channels: int | None
    longest: int | None
    in_memory: bool | None
    memory_limit: int


def put_together(
    parts: Sequence[Sequence[Captioned]], keeping: Keeping, known: Callable[[tuple[str, ...]], Vocabulary]
) -> Dataset[Captions]:
    """A data set of the two ``parts``; ``known`` makes the vocabulary of the training captions."""
    everything = [captioned for part in parts for captioned in part]
    own = [probe_picture(path) for path, _ in everything]
    shaping = Shaping(keeping.channels or max((each[0] for each in own), default=3), longest=keeping.longest)
    sizes = torch.tensor([shaping.target(*each[1:]) for each in own], dtype=torch.int64).reshape(-1, 2)
    files = PictureFiles([path for path, _ in everything], shaping.channels, sizes, shaping.read)
    store = kept(
        files, keeping.name, keeping.folder, keeping.in_memory, keeping.memory_limit,
        longest=keeping.longest, channels=shaping.channels,
    )  # fmt: skip
    vocabulary = known(_texts(parts[0]))
    places = torch.split(torch.arange(len(everything)), [len(part) for part in parts])
    with naming(keeping.folder):
        made = [
            Captions(store.select(place), _texts(part), torch.tensor([len(own) for _, own in part]), vocabulary)
            for place, part in zip(places, parts, strict=True)
        ]
        return Dataset(keeping.name, made[0], made[1])


def _folders(folder: Path) -> list[Path]:
    """The folders with lists: ``folder`` itself, or those of its two parts."""
    if _list_of(folder) is not None:
        return [folder]
    if _list_of(folder / "train") is None:
        raise MissingFileError(folder, "file missing: captions.txt", f"Put it into the folder {folder}")
    test = next((each for each in _TEST_NAMES if _list_of(folder / each) is not None), None)
    if test is None:
        raise DataError(folder, "train/ has captions, but there is no test/ with captions")
    return [folder / "train", folder / test]


def _texts(part: Sequence[Captioned]) -> tuple[str, ...]:
    return tuple(text for _, own in part for text in own)


def _read(folder: Path, encoding: str, left_out: LeftOut) -> list[Captioned]:
    """Pictures with their captions, as the list in ``folder`` says."""
    path = _list_of(folder)
    assert path is not None
    lines = read_lines(path, encoding)
    rows = list(csv.reader(lines)) if path.suffix == ".csv" else [line.split("\t", 1) for line in lines]
    if rows and not is_picture_name(rows[0][0] if rows[0] else ""):
        rows = rows[1:]  # a line of headings
    found: dict[Path, list[str]] = {}
    for row in rows:
        text = ",".join(row[1:]).strip() if len(row) > 1 else ""
        picture = _picture(folder, row[0].strip() if row else "")
        if picture is None:
            left_out.note("captions of missing pictures", row[0] if row else "an empty line")
        elif not text:
            left_out.note("lines without a caption", row[0])
        else:
            found.setdefault(picture, []).append(text)
    usable: list[Captioned] = []
    for picture, texts in found.items():
        try:
            probe_picture(picture)
        except DataError as error:
            left_out.note(f"unreadable pictures ({error.problem})", picture.name)
            continue
        usable.append((picture, texts))
    if not usable:
        raise DataError(path, "no caption of a picture that is there", "Wanted lines of file name, tab, caption")
    return usable


def is_picture_name(text: str) -> bool:
    """Whether it ends as a picture file's name does, perhaps with the number of the caption behind it ("a.jpg#0")."""
    return _stripped(text).suffix != ""


def _stripped(text: str) -> Path:
    return Path(text.split("#")[0].strip())


def _picture(folder: Path, text: str) -> Path | None:
    relative = _stripped(text)
    if not text or relative.is_absolute() or ".." in relative.parts:
        return None
    return next((folder / place / relative for place in _PLACES if is_picture(folder / place / relative)), None)
