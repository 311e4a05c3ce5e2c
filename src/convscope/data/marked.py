"""Pictures with boxes as files say they are, checked against the pictures: what every layout of boxes goes through."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from convscope.data.keeping import kept
from convscope.data.kinds.boxes import Boxes
from convscope.data.left_out import LeftOut
from convscope.data.picture_stores import PictureFiles, PictureStore
from convscope.data.pictures import probe_picture
from convscope.data.ragged import Ragged
from convscope.data.shaping import Shaping
from convscope.errors import DataError


@dataclasses.dataclass(frozen=True)
class Box:
    """x₁, y₁, x₂, y₂ in pixels, the left edge of the first column being 0."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool = False


@dataclasses.dataclass(frozen=True)
class Marked:
    """A picture file with its boxes; ``size`` (height, width) as the annotation says, None where it says nothing."""

    path: Path
    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class BoxOptions:
    """How pictures with boxes are kept: ``classes`` in order, others' boxes dropped (None: all names, sorted); the
    longer side's most pixels; 1 or 3 channels (None: 1 where all files are grey); in memory or not."""

    classes: tuple[str, ...] | None
    longest: int | None
    channels: int | None
    in_memory: bool | None
    memory_limit: int

    def __post_init__(self) -> None:
        Shaping(self.channels or 3, longest=self.longest)  # ArgumentError for what cannot be


def boxes_of(
    parts: Sequence[Sequence[Marked]], name: str, folder: Path, options: BoxOptions, left_out: LeftOut
) -> list[Boxes]:
    """The parts of a data set, with one list of classes.

    A picture that is missing, cannot be opened, or is not of the size that its annotation says is left out; so is a box
    without area or wholly outside its picture; one that reaches over the edge is cut there. All of these are counted.
    DataError where no picture is left.
    """
    probed = [_probed(part, left_out) for part in parts]
    if not any(probed):
        left_out.say(folder)
        raise DataError(folder, "no picture with an annotation that can be used", "Look at the warnings above")
    names = {box.name for part in parts for marked in part for box in marked.boxes}
    classes = options.classes or tuple(sorted(names))
    if not classes:
        raise DataError(folder, "no annotation has a box")
    channels = options.channels or max(own[0] for part in probed for _, own in part)
    shaping = Shaping(channels, longest=options.longest)
    files = [_files(part, shaping) for part in probed]
    paths, sizes = [path for each in files for path in each.paths], torch.cat([each.sizes for each in files])
    everything = PictureFiles(paths, channels, sizes, shaping.read)
    decoding = {"longest": options.longest, "channels": channels}
    store = kept(everything, name, folder, options.in_memory, options.memory_limit, **decoding)
    places = torch.split(torch.arange(len(everything)), [len(part) for part in probed])
    made: list[Boxes] = []
    for part, place in zip(probed, places, strict=True):
        rows = [_row(marked, own, shaping, classes, left_out) for marked, own in part]
        made.append(_made(store.select(place), rows, classes))
    left_out.say(folder)
    return [dataclasses.replace(each, left_out=left_out.counts) for each in made]


def _made(pictures: PictureStore, rows: Sequence[Sequence[Box]], classes: tuple[str, ...]) -> Boxes:
    """Pictures with the boxes of each."""
    boxes = [box for row in rows for box in row]
    corners = torch.tensor([box.corners for box in boxes], dtype=torch.float32).reshape(-1, 4)
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    labels = torch.tensor([classes.index(box.name) for box in boxes], dtype=torch.int64)
    difficult = torch.tensor([box.difficult for box in boxes], dtype=torch.bool)
    return Boxes(pictures, Ragged(corners, offsets), labels, classes, difficult)


def _probed(part: Sequence[Marked], left_out: LeftOut) -> list[tuple[Marked, tuple[int, int, int]]]:
    """The pictures that can be used, with their own (channels, height, width)."""
    usable: list[tuple[Marked, tuple[int, int, int]]] = []
    for marked in part:
        try:
            own = probe_picture(marked.path)
        except DataError as error:
            missing = not marked.path.is_file()
            left_out.note("missing pictures" if missing else f"unreadable pictures ({error.problem})", marked.path.name)
            continue
        if marked.size is not None and marked.size != own[1:]:
            left_out.note("pictures of another size than their annotation says", marked.path.name)
            continue
        usable.append((marked, own))
    return usable


def _files(part: Sequence[tuple[Marked, tuple[int, int, int]]], shaping: Shaping) -> PictureFiles:
    sizes = torch.tensor([shaping.target(*own[1:]) for _, own in part], dtype=torch.int64).reshape(-1, 2)
    return PictureFiles([marked.path for marked, _ in part], shaping.channels, sizes, shaping.read)


def _row(
    marked: Marked, own: tuple[int, int, int], shaping: Shaping, classes: tuple[str, ...], left_out: LeftOut
) -> list[Box]:
    """The boxes of one picture, cut at its edges and scaled with it."""
    _, height, width = own
    wanted = shaping.target(height, width)
    scales = (wanted[1] / width, wanted[0] / height)
    row: list[Box] = []
    for box in marked.boxes:
        if box.name not in classes:
            continue
        x1, y1, x2, y2 = box.corners
        if not (x1 < x2 and y1 < y2):  # also where one is no number
            left_out.note("boxes without area", marked.path.name)
            continue
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            left_out.note("boxes outside their picture", marked.path.name)
            continue
        if cut != box.corners:
            left_out.note("boxes over the edge, cut there", marked.path.name)
        corners = (cut[0] * scales[0], cut[1] * scales[1], cut[2] * scales[0], cut[3] * scales[1])
        row.append(dataclasses.replace(box, corners=corners))
    return row
