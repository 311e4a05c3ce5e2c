"""Scenes of handwritten digits with their descriptions, composed from MNIST while training."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from convscope import seeding
from convscope.data.catalog import SOURCES, Card, register
from convscope.data.dataset import Dataset
from convscope.data.kinds.captions import Captions
from convscope.data.picture_stores import PictureStore
from convscope.data.scene_grammar import Digit, Place, describe, vocabulary
from convscope.data.sources.digit_lines import MnistFile
from convscope.data.sources.mnist import load_mnist
from convscope.errors import ArgumentError

SIDE = 80
"""Height and width of a scene in pixels."""
_ROOM, _EDGE, _ROOMS = 26, 1, 3  # three times three rooms for digits, in pixels, and the edge around them
_LARGE, _SMALL = 24, 14  # pixels a side; MNIST's 28 with their edge of 4
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Scenes(PictureStore):
    """Scene number i: which digits, how large, where; all chance from ``seed``, ``part`` and i.

    ``pictures`` are MNIST's, uint8 (k, 1, 28, 28), with their ``labels``. Each of up to ``most`` digits has a room
    of its own in a grid of three by three, beside, above or below that of the one before, and lies anywhere in it.
    """

    on_disk = True  # made anew each time: statistics look at some of them only

    def __init__(self, pictures: Tensor, labels: Tensor, seed: int, part: str, most: int, places: Tensor) -> None:
        super().__init__(1, torch.tensor([[SIDE, SIDE]]).expand(len(places), 2))
        self.pictures, self.labels = pictures, labels
        self.seed, self.part, self.most, self.places = seed, part, most, places

    def _chance(self, place: int) -> torch.Generator:
        return seeding.generator(self.seed, "digit scene", self.part, place)

    def _drawn(self, chance: torch.Generator) -> tuple[list[Digit], list[int]]:
        """The chain of digits and which of the pictures they are."""

        def one_of(count: int) -> int:
            return int(torch.randint(count, (1,), generator=chance))

        count = 1 + one_of(self.most)
        members = torch.randint(len(self.labels), (count,), generator=chance).tolist()
        large = torch.randint(2, (count,), generator=chance).tolist()
        taken: list[Place] = [(one_of(_ROOMS), one_of(_ROOMS))]
        while len(taken) < count:
            row, column = taken[-1]
            near = [(row + down, column + right) for down, right in _STEPS]
            free = [each for each in near if 0 <= min(each) <= max(each) < _ROOMS and each not in taken]
            taken.append(free[one_of(len(free))])
        rows = zip(members, large, taken, strict=True)
        return [Digit(int(self.labels[member]), bool(size), place) for member, size, place in rows], members

    def scene(self, index: int) -> list[Digit]:
        """The digits of scene ``index`` in the order of their chain."""
        return self._drawn(self._chance(int(self.places[index])))[0]

    def picture(self, index: int) -> Tensor:
        """Scene ``index``, uint8 (1, 80, 80), background 0."""
        chance = self._chance(int(self.places[index]))
        scene, members = self._drawn(chance)
        canvas = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
        for each, member in zip(scene, members, strict=True):
            side = _LARGE if each.large else _SMALL
            down, right = torch.randint(_ROOM - side + 1, (2,), generator=chance).tolist()
            top, left = (_EDGE + _ROOM * room + shift for room, shift in zip(each.place, (down, right), strict=True))
            canvas[:, top : top + side, left : left + side] = _scaled(self.pictures[member], side)
        return canvas

    def select(self, indices: Tensor) -> Scenes:
        return Scenes(self.pictures, self.labels, self.seed, self.part, self.most, self.places[indices])


def _scaled(picture: Tensor, side: int) -> Tensor:
    """uint8 (1, 28, 28) → (1, side, side): the mean over what each pixel covers."""
    weights = _covers(picture.shape[1], side)
    return (weights @ picture[0].float() @ weights.T).round().to(torch.uint8)[None]


@functools.lru_cache(maxsize=4)
def _covers(before: int, after: int) -> Tensor:
    """(after, before): how much of each new pixel's extent each old one covers, as a share."""
    edges = torch.arange(after + 1, dtype=torch.float64) * before / after
    old = torch.arange(before, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], old + 1) - torch.maximum(edges[:-1, None], old)
    return (overlap.clamp(min=0) * after / before).float()


@register(
    "digit_scenes",
    Card(
        title="Scenes of 1 to 3 MNIST digits, described",
        year=1998,
        source="composed from MNIST (LeCun, Bottou, Bengio, Haffner 1998)",
        shape=(1, SIDE, SIDE),
        classes=0,
        train=20_000,
        test=1_000,
        files="those of mnist, in this folder or in mnist's beside it",
        note='Made while training: "a large 3 left of a small 7", in English or Chinese (language=zh); of MNIST\'s '
        "training pictures for train, of its test pictures for test.",
        kind="captions",
    ),
    *[MnistFile(**vars(remote)) for remote in SOURCES["mnist"].remotes],
)
def load(
    folder: Path, train: int = 20_000, test: int = 1_000, most: int = 3, language: str = "en", seed: int = 0
) -> Dataset[Captions]:
    """``train`` and ``test`` scenes of 1 to ``most`` digits, described in ``language`` "en" or "zh"; ``seed`` says
    which scenes."""
    for name, value in (("train", train), ("test", test)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(name, value, "an integer ≥ 1")
    if not isinstance(most, int) or not 1 <= most <= 3:
        raise ArgumentError("most", most, "a number of digits from 1 to 3")
    known = vocabulary(language)
    beside = folder.parent / "mnist"
    digits = load_mnist(beside if not folder.is_dir() and beside.is_dir() else folder)
    parts = []
    for part, count, examples in (("train", train, digits.train), ("test", test, digits.test)):
        scenes = Scenes(examples.images, examples.labels, seed, part, most, torch.arange(count))
        texts = tuple(describe(scenes.scene(place), language) for place in range(count))
        parts.append(Captions(scenes, texts, torch.ones(count, dtype=torch.int64), known))
    return Dataset("digit_scenes", parts[0], parts[1])
