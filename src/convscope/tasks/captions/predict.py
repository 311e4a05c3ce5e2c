"""What is to be seen in pictures, in words."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.columns import shown
from convscope.data.pictures import find_pictures_below, load_picture
from convscope.data.vocabulary import tokens_of
from convscope.errors import ArgumentError, DataError
from convscope.models.searching import Search
from convscope.tasks.captions.foretelling import fitted
from convscope.tasks.captions.preparing import known_to
from convscope.tasks.captions.writing import looks, write
from convscope.training.inference import Inference


@dataclasses.dataclass(frozen=True)
class Caption:
    """``words`` are those of ``caption``; ``whole``: it came to an end. ``looks()``: how much each word and the end
    looked at each place of the picture's map, (words, h, w), None for a model without attention."""

    source: str
    caption: str
    words: tuple[str, ...]
    log_probability: float
    whole: bool
    picture: Tensor = dataclasses.field(repr=False, compare=False)
    looks: Callable[[], Tensor | None] = dataclasses.field(repr=False, compare=False)

    def line(self, most: int) -> str:
        return f"{shown(self.source)}: {shown(self.caption)}"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("source", "caption", "log_probability", "whole")}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, self.caption, f"{self.log_probability:.4f}")]

    def save(self, folder: Path) -> list[Path]:
        """Where each word looked; nothing for a model without attention."""
        from convscope.tasks.captions.drawing import draw_looks

        found = self.looks()
        if found is None:
            return []
        name = re.sub(r"[^\w.-]+", "-", Path(self.source).stem).strip("-.") or "picture"
        path = folder / f"{name}-attention.png"
        draw_looks(path, self, found)
        return [path]


def predict(
    model: nn.Module,
    inputs: Any,
    search: Search,
    batch_size: int = 64,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[Caption]:
    """The caption of every picture, in order.

    ``inputs``: picture files, folders of them (searched through all levels), uint8 tensors (c, h, w), or a sequence of
    these. DataError for an unreadable picture, ArgumentError for an empty request and a model without a vocabulary.
    """
    if engine not in ("auto", "torch"):
        raise ArgumentError("engine", engine, "auto or torch: captions are written word by word, in torch")
    vocabulary, preprocessing = known_to(model)
    sources = list(_sources(inputs))
    if not sources:
        raise ArgumentError("inputs", inputs, "at least one picture")
    told(Inference("torch", "captions are written word by word", lambda given: None))
    first = next(model.parameters())
    for start in range(0, len(sources), batch_size):
        part = sources[start : start + batch_size]
        pictures = [fitted(load_picture(each) if isinstance(each, Path) else each, preprocessing) for _, each in part]
        x = preprocessing.normalise(torch.stack(pictures)).to(first.device, first.dtype)
        found = write(model, x, search)
        for (name, _), picture, ready, text in zip(part, pictures, x, found, strict=True):
            yield Caption(
                source=name,
                caption=vocabulary.decode(text.tokens),
                words=tuple(tokens_of(text.tokens, vocabulary.tokens)),
                log_probability=text.log_probability,
                whole=text.whole,
                picture=picture,
                looks=functools.partial(looks, model, ready, text.tokens),
            )


def _sources(inputs: Any) -> Iterator[tuple[str, Path | Tensor]]:
    several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    for place, item in enumerate(inputs if several else [inputs]):
        if isinstance(item, Tensor):
            if item.dtype != torch.uint8 or item.ndim != 3:
                raise ArgumentError("inputs", f"{item.dtype} {tuple(item.shape)}", "pictures, uint8 (c, h, w)")
            yield str(place), item
        elif isinstance(item, str | Path):
            path = Path(item)
            found = find_pictures_below(path) if path.is_dir() else [path]
            if not found:
                raise DataError(path, "no pictures in this folder")
            yield from ((str(each), each) for each in found)
        else:
            raise ArgumentError("inputs", type(item).__name__, "names of picture files or folders, or uint8 tensors")
