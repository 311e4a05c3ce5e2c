"""Whether two given pictures show the same person."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from convscope.columns import shown
from convscope.data.given import given_pictures
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.spec import Input, Preprocessing
from convscope.training.inference import Inference, prepare_inference


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``score`` is −D: from the ``threshold`` on the two are said to be ``same``. ``fitted`` names pictures that were
    brought from another size to the model's."""

    first: str
    second: str
    score: float
    threshold: float
    same: bool
    fitted: tuple[str, ...]

    @property
    def source(self) -> str:
        return f"{self.first}, {self.second}"

    def line(self, most: int) -> str:
        decision = "the same person" if self.same else "two people"
        told = f"{shown(self.first)} and {shown(self.second)}: {decision}, score {self.score:.4g}"
        return f"{told}, threshold {self.threshold:g}"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.first, self.second, f"{self.score:.6f}", int(self.same))]

    def save(self, folder: Path) -> list[Path]:
        return []  # a yes or no: there is nothing to draw


def predict(
    network: nn.Module,
    pictures: Any,
    preprocessing: Preprocessing,
    whole: tuple[int, int],
    batch_size: int = 64,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Verdict]:
    """A verdict on each two pictures: files, arrays, tensors, PIL pictures, in a list the first with the second, the
    third with the fourth, …; or two batches (n, c, h, w), compared one by one.

    Raises ArgumentError for an odd number, or none.
    """
    pairs = _paired(pictures)
    wanted = dataclasses.replace(preprocessing, size=whole)
    given = Input("pictures", preprocessing=preprocessing)
    inference = prepare_inference(network, (given, given), engine, len(pairs))
    told(inference)
    top, left = ((whole[axis] - preprocessing.size[axis]) // 2 for axis in (0, 1))
    height, width = preprocessing.size
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        raw = [[each.pixels() for each in pair] for pair in part]
        sides = []
        for side in (0, 1):
            pixels = torch.cat([prepare(pair[side][None], wanted) for pair in raw])
            sides.append(pixels[:, :, top : top + height, left : left + width].contiguous())
        D: Tensor = inference.outputs(sides)
        for pair, pixels_of, value in zip(part, raw, D.tolist(), strict=True):
            if value != value:
                raise ArgumentError("model", "outputs that are no numbers", "a model whose outputs are finite")
            fitted = tuple(
                f"{each.name} ({own.shape[1]}×{own.shape[2]} → {whole[0]}×{whole[1]})"
                for each, own in zip(pair, pixels_of, strict=True)
                if tuple(own.shape[1:]) != tuple(whole)
            )
            yield Verdict(pair[0].name, pair[1].name, -value, 0.0, value <= 0, fitted)


def _paired(pictures: Any) -> list[tuple[Any, Any]]:
    if isinstance(pictures, Sequence) and len(pictures) == 2 and all(_is_batch(each) for each in pictures):
        sides = [list(given_pictures(each)) for each in pictures]
        if len(sides[0]) != len(sides[1]):
            raise ArgumentError("pictures", (len(sides[0]), len(sides[1])), "as many first as second pictures")
        return list(zip(*sides, strict=True))
    found = list(given_pictures(pictures))
    if not found or len(found) % 2:
        raise ArgumentError("pictures", len(found), "an even number of pictures, two for each question")
    return list(zip(found[::2], found[1::2], strict=True))


def _is_batch(each: Any) -> bool:
    return isinstance(each, Tensor | numpy.ndarray) and each.ndim == 4
