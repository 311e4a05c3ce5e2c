"""Pictures of lines with what they say: a text file beside them, a picture's name, a tab and its text a line.

lines/lines.txt:  a01.png<TAB>the quick brown fox          lines/a01.png …
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from convscope import seeding
from convscope.data.catalog import layout
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError, naming, read_lines
from convscope.data.kinds.lines import Lines, as_line
from convscope.data.left_out import LeftOut
from convscope.data.pictures import load_picture
from convscope.errors import ArgumentError, DataError

_NAMES = ("lines.txt", "lines.tsv")


def _table(folder: Path) -> Path | None:
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


@layout(
    "lines",
    "lines.txt with a picture's name, a tab and the text of its line on each line, pictures beside it",
    lambda path: path.is_dir() and _table(path) is not None,
)
def load_lines(
    folder: Path,
    *,
    name: str = "",
    height: int = 32,
    dark: bool = True,
    encoding: str = "utf-8",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset[Lines]:
    """The pictures that lines.txt names, grey, ``height`` pixels high and as wide as their shape asks; of any alphabet,
    which is that of all the texts.

    ``dark``: the writing is darker than its ground, and is turned round, as background is 0 here. ``test_fraction`` of
    the lines is set aside for testing, chosen by ``seed``. Rows without a text are left out, counted and said.
    DataError, naming the line, for a row without a tab or another encoding, and for a picture that is not there.
    """
    table = _table(folder)
    if table is None:
        raise MissingFileError(folder, f"file missing: {_NAMES[0]}", f"Put it into the folder {folder}")
    if not isinstance(height, int) or height < 8:
        raise ArgumentError("height", height, "pixels, an integer ≥ 8")
    if not isinstance(test_fraction, int | float) or not 0 < test_fraction < 1:
        raise ArgumentError("test_fraction", test_fraction, "a number between 0 and 1, for example 0.2")
    left_out = LeftOut()
    texts: list[str] = []
    pictures: list[Tensor] = []
    for number, row in enumerate(read_lines(table, encoding), 1):
        if not row.strip():
            continue
        file, tab, text = row.partition("\t")
        if not tab:
            raise DataError(table, f"line {number} has no tab between picture and text")
        if not text.strip():
            left_out.note("pictures without a text", f"line {number}")
            continue
        if not (folder / file.strip()).is_file():
            raise DataError(table, f"line {number} names {file.strip()}, which is not in {folder}")
        pictures.append(as_line(load_picture(folder / file.strip()), height, dark))
        texts.append(text.strip())
    left_out.say(table)
    if len(texts) < 2:
        raise DataError(table, f"{len(texts)} lines, wanted at least two, one to train on and one to test")
    order = torch.randperm(len(texts), generator=seeding.generator(seed, "split"))
    count = min(max(round(len(texts) * test_fraction), 1), len(texts) - 1)
    with naming(table):
        alphabet = tuple(sorted(set("".join(texts))))
        widths = torch.tensor([picture.shape[2] for picture in pictures])
        mark = zlib.crc32(b"".join(picture.numpy().tobytes() for picture in pictures))
        whole = Lines(tuple(texts), alphabet, height, Kept(pictures), mark=mark, widths=widths, dark=dark)
        return Dataset(name or folder.resolve().name, whole.select(order[count:]), whole.select(order[:count]))


class Kept:
    """Pictures in memory, by their place."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self.pictures = list(pictures)

    def __call__(self, place: int) -> Tensor:
        return self.pictures[place]
