"""Pictures of one or two blocks, wide or tall, with what is to be seen in them, for tests that need no data."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.data import Dataset
from convscope.data.kinds.captions import Captions
from convscope.data.picture_stores import PicturesInMemory
from convscope.data.vocabulary import Vocabulary


def block(name: str, side: str) -> Tensor:
    """16×16, one block in the left or the right half."""
    picture = torch.zeros(1, 16, 16, dtype=torch.uint8)
    left = 1 if side == "left" else 9
    if name == "wide":
        picture[:, 6:9, left : left + 6] = 220
    else:
        picture[:, 2:14, left + 2 : left + 4] = 220
    return picture


def blocks(train: int, test: int, captions: int = 1) -> Dataset[Captions]:
    """The block on the left and that on the right, each there or not; of several ``captions`` the later are others."""
    chance = torch.Generator().manual_seed(3)
    pictures, texts = [], []
    for _ in range(train + test):
        kinds = [("", "wide", "tall")[int(each)] for each in torch.randint(3, (2,), generator=chance)]
        sides = zip(kinds, ("left", "right"), strict=True)
        seen = [block(kind, side) for kind, side in sides if kind]
        picture = torch.stack([torch.zeros(1, 16, 16, dtype=torch.uint8), *seen]).amax(0)
        noise = torch.randint(0, 30, picture.shape, generator=chance, dtype=torch.uint8)
        pictures.append(picture + noise)
        words = [f"a {kind} one {side}" for kind, side in zip(kinds, ("left", "right"), strict=True) if kind]
        told = " , ".join(words) or "nothing"
        texts += [told, *["some blocks"] * (captions - 1)]
    known = Vocabulary.build(texts)
    counts = torch.full((train + test,), captions, dtype=torch.int64)
    whole = Captions(PicturesInMemory(pictures), tuple(texts), counts, known)
    return Dataset("blocks", whole.select(torch.arange(train)), whole.select(torch.arange(train, train + test)))
