"""The class of every pixel of pictures of any size, as maps, overlays and label files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.columns import shown
from convscope.data.given import GivenPicture, Images, given_pictures
from convscope.data.kinds.maps import Palette
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError
from convscope.tasks.segmentation.drawing import overlay, palette_for, write_labels, write_legend, write_picture
from convscope.tasks.segmentation.metrics import answers
from convscope.tasks.segmentation.tiles import MOST_PIXELS, Local, in_parts
from convscope.training.inference import Inference, prepare_inference
from convscope.training.preparing import preprocessing_for

_TOGETHER = 1_000_000  # pixels that are answered at once


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """``labels`` uint8 (h, w) are numbers of ``classes``; ``picture`` is what was looked at, ``source`` its name."""

    source: str
    classes: tuple[str, ...]
    labels: Tensor
    palette: Palette
    picture: GivenPicture

    def pixels(self) -> list[tuple[str, int]]:
        """How many pixels each class that is there has, most first."""
        counts = torch.bincount(self.labels.flatten().to(torch.int64), minlength=len(self.classes)).tolist()
        there = [(name, count) for name, count in zip(self.classes, counts, strict=True) if count]
        return sorted(there, key=lambda item: -item[1])

    def line(self, most: int) -> str:
        told = "  ".join(f"{shown(name)} {count / self.labels.numel():.1%}" for name, count in self.pixels()[:most])
        return f"{shown(self.source)}: {told}"

    def to_json(self) -> dict[str, Any]:
        height, width = self.labels.shape
        return {"picture": self.source, "height": height, "width": width, "pixels": dict(self.pixels())}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        total = self.labels.numel()
        return [(self.source, name, count, f"{count / total:.6f}") for name, count in self.pixels()[:most]]

    def save(self, folder: Path) -> list[Path]:
        """``<name>-labels.png`` (class numbers with their colours), ``<name>-overlay.png`` (the picture under them) and
        ``legend.png``; a picture's name is its path with - for /."""
        name = self.picture.flat_name
        drawn = overlay(self.picture.pixels(), self.labels, self.palette)
        return [
            write_labels(folder / f"{name}-labels.png", self.labels, self.palette),
            write_picture(folder / f"{name}-overlay.png", drawn),
            write_legend(folder / "legend.png", self.classes, self.palette),
        ]


def predict(
    network: nn.Module,
    images: Images,
    batch_size: int = 64,
    preprocessing: spec.Preprocessing | None = None,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Segmentation]:
    """The class of every pixel of every picture, each in its own size.

    ``images``: see ``convscope.data.given.given_pictures``. Pictures of one size that follow each other are answered
    together, at most ``batch_size``. One of more than 4 million pixels is answered in parts where the network says how
    far it looks (``tiles.Local``), with the same result and in bounded memory.

    ``engine``: "auto", "native" or "torch", as for ``evaluate``; ``told`` hears which it is.

    Raises DataError for a missing, unreadable or damaged picture, ArgumentError for an empty request, wrong types, a
    model without preprocessing, a picture that it cannot take, or one whose outputs are no numbers.
    """
    described = spec.spec_of(network)
    preprocessing = preprocessing or preprocessing_for(network)
    sources = list(given_pictures(images))
    if not sources:
        raise ArgumentError("images", images, "at least one picture")
    answering = _Answering(network, preprocessing, engine, len(sources), told)
    names = described.classes if described is not None else ()
    given = described.answers.more.get("palette", ()) if described is not None else ()
    for group in _groups(sources, batch_size):
        for source, labels in zip(group, answering.labels([source.pixels() for source in group]), strict=True):
            classes = names or tuple(map(str, range(answering.classes)))
            yield Segmentation(source.name, classes, labels, palette_for(len(classes), given), source)


def _groups(sources: Sequence[GivenPicture], batch_size: int) -> Iterator[list[GivenPicture]]:
    """Neighbours of one size, as many as are answered at once."""
    for shape, same in itertools.groupby(sources, lambda source: tuple(source.pixels().shape)):
        together = list(same)
        most = max(1, min(batch_size, _TOGETHER // (shape[1] * shape[2])))
        yield from (together[start : start + most] for start in range(0, len(together), most))


class _Answering:
    """The network with its engine, prepared anew for pictures of another size than those before."""

    def __init__(
        self,
        network: nn.Module,
        preprocessing: spec.Preprocessing,
        engine: str,
        count: int,
        told: Callable[[Inference], object],
    ) -> None:
        self.network, self.preprocessing, self.engine = network, preprocessing, engine
        self.count, self.told = count, told
        self.classes = 0
        self._size: tuple[int, int] | None = None
        self._inference: Inference | None = None

    def labels(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """uint8 (h, w) of each of some pictures of one size."""
        pixels = convert_channels(torch.stack(list(pictures)), self.preprocessing.channels)
        if pixels[0, 0].numel() > MOST_PIXELS and isinstance(self.network, Local):
            return [in_parts(picture, self.network, self._answer) for picture in pixels]
        return list(self._answer(pixels).to("cpu", torch.uint8))

    def _answer(self, pixels: Tensor) -> Tensor:
        """int64 (n, h, w) of pictures (n, c, h, w)."""
        size = (pixels.shape[2], pixels.shape[3])
        try:
            scores = self._prepared(size).outputs((pixels,))
        except RuntimeError as problem:
            hint = str(problem).split("\n")[0]
            raise ArgumentError("images", f"a picture of {size}", "a size that the model takes", hint) from problem
        if not isinstance(scores, Tensor) or scores.ndim != 4 or (scores.shape[2], scores.shape[3]) != size:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ArgumentError("model", f"outputs of shape {got}", f"scores for every pixel of {size}")
        if not scores.isfinite().all():
            hint = "Its weights may have exploded in training"
            raise ArgumentError("model", "outputs that are no numbers", "a model whose outputs are finite", hint)
        self.classes = scores.shape[1]
        return answers(scores)

    def _prepared(self, size: tuple[int, int]) -> Inference:
        if self._inference is None or (self._inference.engine == "native" and size != self._size):
            own = dataclasses.replace(self.preprocessing, size=size)
            pictures = spec.Input("pictures", (own.channels, *size), own)
            first = self._inference is None
            self._inference, self._size = prepare_inference(self.network, (pictures,), self.engine, self.count), size
            if first:
                self.told(self._inference)
        return self._inference
