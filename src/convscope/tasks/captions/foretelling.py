"""Pictures with captions as a writer of captions learns from them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.data.examples import Batch
from convscope.data.kinds.captions import Captions
from convscope.data.picture_stores import PictureStore
from convscope.data.transforms import convert_channels, fit_size
from convscope.data.vocabulary import END, PADDING, START
from convscope.spec import Preprocessing


class FittedPictures(PictureStore):
    """The pictures of a store in the channels and size of ``preprocessing``."""

    def __init__(self, store: PictureStore, preprocessing: Preprocessing) -> None:
        size = torch.tensor([preprocessing.size]).expand(len(store), 2)
        super().__init__(preprocessing.channels, size)
        self.store, self.preprocessing, self.on_disk = store, preprocessing, store.on_disk

    def picture(self, index: int) -> Tensor:
        return fitted(self.store.picture(index), self.preprocessing)

    def select(self, indices: Tensor) -> FittedPictures:
        return FittedPictures(self.store.select(indices), self.preprocessing)


def fitted(picture: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (c, h, w) in the model's channels and size."""
    if tuple(picture.shape) == (preprocessing.channels, *preprocessing.size):
        return picture
    return fit_size(convert_channels(picture[None], preprocessing.channels), preprocessing.size, preprocessing.fit)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Foretelling:
    """``captions`` word by word: a batch weighs as many as the tokens that are to be foretold, ends included.

    A batch's inputs are the pictures, uint8 (m, c, h, w), one for each caption, and the captions as far as they are
    known when the next token is foretold, int64 (m, t), with ``START`` before them; its targets the captions with
    ``END`` behind, int64 (m, t). All are filled up behind with ``PADDING``, 0. Its pictures are of one size.
    """

    kind: ClassVar[str] = "captions"
    lengths: ClassVar[Tensor | None] = None

    captions: Captions

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def on_disk(self) -> bool:
        return self.captions.pictures.on_disk

    def batch(self, indices: Tensor) -> Batch:
        """((pictures (m, c, h, w), begun (m, t)), foretold (m, t))."""
        own = self.captions.batch(indices)
        targets, rows = own.targets, own.targets.pictures()
        pictures = own.inputs[0] if len(rows) == len(indices) else own.inputs[0][rows]
        begun = torch.nn.functional.pad(targets.tokens, (1, 0), value=START)
        foretold = torch.nn.functional.pad(targets.tokens, (0, 1), value=PADDING)
        foretold[torch.arange(len(rows)), targets.lengths] = END
        return Batch((pictures, begun), foretold, len(indices), self.weight(indices))

    def weight(self, indices: Tensor) -> float:
        """Tokens of the captions, ends included."""
        return self.captions.weight(indices)

    def select(self, indices: Tensor) -> Foretelling:
        """The pictures at ``indices``, in that order."""
        return Foretelling(self.captions.select(indices))

    def fingerprint(self, checksum: int = 0) -> int:
        """That of the captions."""
        return self.captions.fingerprint(checksum)

    def describe(self) -> dict[str, Any]:
        """What the captions say of themselves."""
        return self.captions.describe()
