"""A few examples of every kind, in memory and on disk, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from PIL import Image
from tests.tasks.lines.strokes import strokes

from convscope.data import Examples, Labelled
from convscope.data.kinds.boxes import Boxes
from convscope.data.kinds.captions import Captions
from convscope.data.kinds.labelled_on_disk import LabelledOnDisk
from convscope.data.kinds.maps import Maps
from convscope.data.kinds.pairs import draw_pairs
from convscope.data.kinds.parallel import Parallel
from convscope.data.kinds.sentences import Sentences
from convscope.data.picture_stores import PictureFiles, PicturesInMemory, PictureStore, PixelFile
from convscope.data.pictures import load_picture
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import Vocabulary

COUNT = 11
SIZES = [(5 + place % 3, 9 - place % 4) for place in range(COUNT)]
TEXTS = tuple(" ".join("abcdefg"[: 1 + place % 5]) for place in range(COUNT))
CLASSES = ("cat", "dog", "owl")
LABELS = torch.arange(COUNT) % 3


def noise(sizes: list[tuple[int, int]], channels: int = 3) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (channels, *size), generator=chance, dtype=torch.uint8) for size in sizes]


def as_files(folder: Path, pictures: list[torch.Tensor]) -> PictureFiles:
    """The same pictures as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place:03}.png" for place in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        array = picture.permute(1, 2, 0).numpy() if len(picture) == 3 else picture[0].numpy()
        Image.fromarray(array).save(path)
    sizes = torch.tensor([picture.shape[1:] for picture in pictures])
    return PictureFiles(paths, len(pictures[0]), sizes, load_picture)


def as_array(folder: Path, pictures: list[torch.Tensor]) -> PixelFile:
    """The same pictures, all of one size, in one .npy file."""
    folder.mkdir(parents=True, exist_ok=True)
    numpy.save(folder / "pictures.npy", torch.stack(pictures).numpy())
    return PixelFile(folder / "pictures.npy")


def kept(folder: Path, pictures: list[torch.Tensor], on_disk: bool) -> PictureStore:
    return as_files(folder, pictures) if on_disk else PicturesInMemory(pictures)


def some_labelled() -> Labelled:
    return Labelled(torch.stack(noise([(6, 7)] * COUNT)), LABELS, CLASSES)


def some_boxes(folder: Path, on_disk: bool = False) -> Boxes:
    """Picture k has k % 4 boxes."""
    rows = [[[0.5 * j, 1, 2 + j, 3 + 0.25 * j] for j in range(place % 4)] for place in range(COUNT)]
    boxes = Ragged.of([torch.tensor(row).reshape(-1, 4) for row in rows], torch.float32)
    labels = torch.arange(len(boxes.values)) % 3
    return Boxes(kept(folder, noise(SIZES), on_disk), boxes, labels, CLASSES, labels == 1)


def some_maps(folder: Path, on_disk: bool = False) -> Maps:
    maps = [picture % 4 for picture in noise(SIZES, channels=1)]
    for each in maps:
        each[each == 3] = 255
    palette = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    return Maps(
        kept(folder / "images", noise(SIZES), on_disk), kept(folder / "maps", maps, on_disk), CLASSES, palette=palette
    )


def some_captions(folder: Path, on_disk: bool = False) -> Captions:
    """Picture k has 1 + k % 3 captions."""
    counts = 1 + torch.arange(COUNT) % 3
    texts = tuple("xyz"[: 1 + place % 3] for place in range(int(counts.sum())))
    pictures = kept(folder, noise(SIZES), on_disk)
    return Captions(pictures, texts, counts, Vocabulary.build(texts, cut="characters"))


def some_sentences() -> Sentences:
    return Sentences(TEXTS, LABELS, CLASSES, Vocabulary.build(TEXTS, most=5))


def some_parallel() -> Parallel:
    translated = tuple(reversed(TEXTS))
    return Parallel(TEXTS, translated, Vocabulary.build(TEXTS), Vocabulary.build(translated, least=4))


KINDS: dict[str, Callable[[Path], Examples]] = {
    "labelled": lambda folder: some_labelled(),
    "labelled files": lambda folder: LabelledOnDisk(as_files(folder, list(some_labelled().images)), LABELS, CLASSES),
    "labelled array": lambda folder: LabelledOnDisk(as_array(folder, list(some_labelled().images)), LABELS, CLASSES),
    "boxes": some_boxes,
    "boxes on disk": lambda folder: some_boxes(folder, on_disk=True),
    "maps": some_maps,
    "maps on disk": lambda folder: some_maps(folder, on_disk=True),
    "captions": some_captions,
    "captions on disk": lambda folder: some_captions(folder, on_disk=True),
    "pairs": lambda folder: draw_pairs(some_labelled(), 14, seed=1),
    "sentences": lambda folder: some_sentences(),
    "parallel": lambda folder: some_parallel(),
    "lines": lambda folder: strokes(COUNT, 1).train,
}
