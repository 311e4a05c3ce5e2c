"""Pictures of lines of text with what they say."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.ragged import Ragged
from convscope.data.transforms import convert_channels, fit_size
from convscope.errors import ArgumentError

STEP = 4
"""Lines are made as wide as a multiple of this with background, so that a network that halves them twice reads a line
the same whatever lines are beside it."""

Draw = Callable[[int], Tensor]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Lines:
    """Lines of one height and any width, each with a text over ``alphabet``; each line weighs 1.

    ``draw(place)`` is the picture at ``places[i]``, uint8 (1, height, width), background 0: kept, or made anew each
    time. A batch's inputs are the pictures (n, 1, height, widest), filled up with background behind, and their widths,
    int64 (n,), multiples of 4; its targets {"texts": characters' numbers from 1 on, (n, longest), 0 behind each text,
    "lengths": (n,), "widths": as above, "width": that of the batch}. 0 is the blank, character k of the alphabet k + 1.
    """

    kind: ClassVar[str] = "lines"
    on_disk: ClassVar[bool] = False
    lengths: ClassVar[Tensor | None] = None

    texts: tuple[str, ...]
    alphabet: tuple[str, ...]
    height: int
    draw: Draw
    places: Tensor = None  # type: ignore[assignment]  # left out: 0, 1, 2 …
    mark: int = 0  # tells pictures of the same texts from others
    widths: Tensor | None = None  # of the pictures, int64 (n,), where they are known without making them
    dark: bool = False  # the writing was darker than its ground, and was turned round

    def __post_init__(self) -> None:
        if self.places is None:
            object.__setattr__(self, "places", torch.arange(len(self.texts)))
        if len(set(self.alphabet)) < len(self.alphabet) or any(len(each) != 1 for each in self.alphabet):
            raise ArgumentError("alphabet", self.alphabet, "different characters")
        if len(self.places) != len(self.texts):
            raise ArgumentError("places", len(self.places), f"one for each of the {len(self.texts)} texts")
        known = set(self.alphabet)
        for place, text in enumerate(self.texts):
            if not text or not set(text) <= known:
                strange = sorted(set(text) - known)
                got = f"line {place}: {text!r}"
                raise ArgumentError("texts", got, f"characters of the alphabet, not {''.join(strange)!r}")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Lines({len(self)} lines of {len(self.alphabet)} characters, {self.height} pixels high)"

    def picture(self, index: int) -> Tensor:
        """uint8 (1, height, width), the width as it is."""
        return self.draw(int(self.places[index]))

    def numbers(self, text: str) -> list[int]:
        """Its characters' numbers, from 1 on."""
        return [self.alphabet.index(character) + 1 for character in text]

    def batch(self, indices: Tensor) -> Batch:
        """See the class."""
        chosen = indices.tolist()
        pictures, widths = side_by_side([self.picture(index) for index in chosen])
        texts, lengths = Ragged.of([self.numbers(self.texts[index]) for index in chosen]).padded(
            torch.arange(len(chosen))
        )
        targets = {"texts": texts, "lengths": lengths, "widths": widths, "width": pictures.shape[3]}
        return Batch((pictures, widths), targets, len(chosen), float(len(chosen)))

    def weight(self, indices: Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def select(self, indices: Tensor) -> Lines:
        """The lines at ``indices``, in that order."""
        texts = tuple(self.texts[index] for index in indices.tolist())
        widths = None if self.widths is None else self.widths[indices]
        return dataclasses.replace(self, texts=texts, places=self.places[indices], widths=widths)

    def spelled(self, alphabet: Sequence[str]) -> Lines:
        """The same in the numbers of another alphabet; ArgumentError where that lacks a character."""
        return dataclasses.replace(self, alphabet=tuple(alphabet))

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of all texts and of what tells the pictures from others."""
        told = "\n".join((*self.texts, "".join(self.alphabet), str(self.height), str(self.mark)))
        return zlib.crc32(told.encode(), checksum)

    def describe(self) -> dict[str, Any]:
        """{"lines": their number, "alphabet": the characters, "height": pixels}."""
        return {"lines": len(self), "alphabet": "".join(self.alphabet), "height": self.height}

    def check_test(self, test: Lines) -> None:
        """ArgumentError where ``test`` has another alphabet or height."""
        if (self.alphabet, self.height) != (test.alphabet, test.height):
            raise ArgumentError("test", repr(test), f"the alphabet and height of train, {self!r}")


def side_by_side(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures (1, h, w) in one tensor (n, 1, h, widest), background behind, and their widths in whole steps, (n,)."""
    widths = torch.tensor([-(-picture.shape[2] // STEP) * STEP for picture in pictures])
    whole = torch.zeros(len(pictures), *pictures[0].shape[:2], int(widths.max()), dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        whole[place, :, :, : picture.shape[2]] = picture
    return whole, widths


def as_line(picture: Tensor, height: int, dark: bool) -> Tensor:
    """uint8 (c, h, w) → (1, height, width in proportion), background 0: turned round where the writing is ``dark``."""
    grey = convert_channels(picture[None], 1)
    width = max(round(picture.shape[2] * height / picture.shape[1]), 1)
    grey = fit_size(grey, (height, width))[0]
    return 255 - grey if dark else grey
