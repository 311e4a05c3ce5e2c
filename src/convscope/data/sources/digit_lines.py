"""Lines of handwritten digits, composed from MNIST while training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from convscope import seeding
from convscope.data.catalog import SOURCES, Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.kinds.lines import Lines
from convscope.data.layouts.idx import DIGITS
from convscope.data.sources.mnist import load_mnist
from convscope.errors import ArgumentError

HEIGHT = 32
_GAPS = (-6, 5)  # columns between neighbours' pictures, whose digits have 4 empty ones at each side: they may touch
_EDGE = 4  # most empty columns at a line's ends


@dataclasses.dataclass(frozen=True)
class Composer:
    """Line number i: so many digits, which pictures, where; all chance from ``seed``, ``part`` and i."""

    pictures: Tensor
    labels: Tensor
    seed: int
    part: str
    shortest: int
    longest: int

    def _chance(self, place: int) -> torch.Generator:
        return seeding.generator(self.seed, "digit line", self.part, place)

    def _members(self, chance: torch.Generator) -> Tensor:
        count = int(torch.randint(self.shortest, self.longest + 1, (1,), generator=chance))
        return torch.randint(len(self.labels), (count,), generator=chance)

    def text(self, place: int) -> str:
        """What line ``place`` says."""
        return "".join(DIGITS[int(self.labels[member])] for member in self._members(self._chance(place)))

    def __call__(self, place: int) -> Tensor:
        """Its picture, uint8 (1, 32, width)."""
        chance = self._chance(place)
        members = self._members(chance)
        gaps = torch.randint(_GAPS[0], _GAPS[1] + 1, (len(members),), generator=chance).tolist()
        rises = torch.randint(0, HEIGHT - 28 + 1, (len(members),), generator=chance).tolist()
        start, end = torch.randint(0, _EDGE + 1, (2,), generator=chance).tolist()
        width = start + 28 * len(members) + sum(gaps[1:]) + end
        line = torch.zeros(1, HEIGHT, width, dtype=torch.uint8)
        x = start
        for number, (member, gap, rise) in enumerate(zip(members.tolist(), gaps, rises, strict=True)):
            x += gap if number else 0
            window = line[:, rise : rise + 28, x : x + 28]
            torch.maximum(window, self.pictures[member], out=window)
            x += 28
        return line


class MnistFile(Remote):
    """A file of MNIST's, in this set's own folder or in mnist's beside it."""

    def present(self, folder: Path) -> bool:
        return super().present(folder) or super().present(folder.parent / "mnist")


@register(
    "digit_lines",
    Card(
        title="Lines of 3 to 9 MNIST digits",
        year=1998,
        source="composed from MNIST (LeCun, Bottou, Bengio, Haffner 1998)",
        shape=None,
        classes=10,
        train=20_000,
        test=2_000,
        files="those of mnist, in this folder or in mnist's beside it",
        note="Made while training: digits of MNIST's training writers for train, of its test writers for test, with "
        "random gaps and overlaps.",
        kind="lines",
    ),
    *[MnistFile(**vars(remote)) for remote in SOURCES["mnist"].remotes],
)
def load(
    folder: Path, train: int = 20_000, test: int = 2_000, shortest: int = 3, longest: int = 9, seed: int = 0
) -> Dataset[Lines]:
    """``train`` and ``test`` lines of ``shortest`` to ``longest`` digits, which ones ``seed`` says."""
    for name, value in (("train", train), ("test", test), ("shortest", shortest)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(name, value, "an integer ≥ 1")
    if not isinstance(longest, int) or longest < shortest:
        raise ArgumentError("longest", longest, f"an integer ≥ shortest, {shortest}")
    beside = folder.parent / "mnist"
    digits = load_mnist(beside if not folder.is_dir() and beside.is_dir() else folder)
    parts = []
    for part, count, examples in (("train", train, digits.train), ("test", test, digits.test)):
        composer = Composer(examples.images, examples.labels, seed, part, shortest, longest)
        texts = tuple(map(composer.text, range(count)))
        parts.append(Lines(texts, DIGITS, HEIGHT, composer, mark=seed))
    return Dataset("digit_lines", parts[0], parts[1])
