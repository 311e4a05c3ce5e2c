"""Lines of three kinds of strokes, easy to tell apart, for tests that need no data."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.data import Dataset
from convscope.data.kinds.lines import Lines

ALPHABET = ("-", "i", "o")


def _stroke(character: str) -> Tensor:
    glyph = torch.zeros(16, 8, dtype=torch.uint8)
    if character == "-":
        glyph[7:9, 1:7] = 255
    elif character == "i":
        glyph[2:14, 3:5] = 255
    else:
        glyph[3:13, 1:7] = 255
        glyph[5:11, 3:5] = 0
    return glyph


class Strokes:
    """Draws line ``place`` of ``texts``: 32 pixels high, 12 columns a character and a few at its ends."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts

    def __call__(self, place: int) -> Tensor:
        text = self.texts[place]
        line = torch.zeros(1, 32, 12 * len(text) + place % 5, dtype=torch.uint8)
        for number, character in enumerate(text):
            line[0, 6 + place % 7 : 22 + place % 7, 12 * number + 2 : 12 * number + 10] = _stroke(character)
        return line


def strokes(train: int, test: int, longest: int = 5) -> Dataset[Lines]:
    """Texts of 1 to ``longest`` strokes."""
    chance = torch.Generator().manual_seed(7)
    texts = []
    for _ in range(train + test):
        length = int(torch.randint(1, longest + 1, (1,), generator=chance))
        texts.append("".join(ALPHABET[int(each)] for each in torch.randint(3, (length,), generator=chance)))
    whole = Lines(tuple(texts), ALPHABET, 32, Strokes(tuple(texts)))
    return Dataset("strokes", whole.select(torch.arange(train)), whole.select(torch.arange(train, train + test)))
