"""What is explained: the score of a class, one unit, a map, or a box of units in a map."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.spec import spec_of

Index = int | slice


@dataclasses.dataclass(frozen=True)
class Place:
    """Units of the layer ``layer`` (a name as in a trace; "" is the model's output), whose sum is explained.

    ``index`` goes into the layer's output without the batch: ``Place("conv2", 5)`` is map 5, ``Place("conv2", 5, 3,
    7)`` one unit of it, ``Place("conv2", 5, slice(2, 6), slice(0, 3))`` a box; nothing at all stands for the whole
    layer.
    """

    layer: str
    index: tuple[Index, ...]

    def __init__(self, layer: str = "", *index: Index) -> None:
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "index", tuple(index))

    def __str__(self) -> str:
        return f"{self.layer}[{', '.join(map(_shown, self.index))}]"

    def of(self, y: Tensor) -> Tensor:
        """The sum of the units meant for each example, (n,); ArgumentError where the layer has no such units."""
        picked = y[self._within(y)]
        return picked.reshape(len(y), -1).sum(1)

    def seed(self, y: Tensor) -> Tensor:
        """∂(their sum)/∂y: 1 at the units meant, 0 elsewhere."""
        seed = torch.zeros_like(y)
        seed[self._within(y)] = 1
        return seed

    def _within(self, y: Tensor) -> tuple[Any, ...]:
        sizes = y.shape[1:]
        fits = len(self.index) <= len(sizes) and all(
            0 <= i < size if isinstance(i, int) else len(range(*i.indices(size))) > 0
            for i, size in zip(self.index, sizes, strict=False)
        )
        if not fits:
            limits = ", ".join(f"0…{size - 1}" for size in sizes)
            raise ArgumentError("target", str(self), f"units of {self.layer or 'the output'}: {limits}")
        return (slice(None), *self.index)


def _shown(index: Index) -> str:
    if isinstance(index, int):
        return str(index)
    return f"{'' if index.start is None else index.start}:{'' if index.stop is None else index.stop}"


Target = int | str | Tensor | Place | None


def target_of(model: nn.Module, target: Target, output: Tensor, scores: Tensor | None) -> Tensor | Place:
    """Class numbers (n,) or a place, from what the user gave; ``scores`` (n, classes) where the output is a list.

    None is the class that the model itself puts first. A string is a class name, or a place as text, "conv2[5, 2:6,
    :]". Raises ArgumentError for a target that the model does not have.
    """
    if isinstance(target, Place):
        return target
    if isinstance(target, str):
        described = spec_of(model)
        names = described.classes if described is not None else ()
        if target not in names:
            return place_of(target, names)
        target = names.index(target)
    if scores is None:
        raise ArgumentError(
            "target", target, "a Place", f"The model's output, {tuple(output.shape)}, is no list of classes."
        )
    if target is None:
        return scores.argmax(1)
    classes = torch.as_tensor(target, device=scores.device)
    if classes.ndim == 0:
        classes = classes.expand(len(scores))
    whole = not classes.is_floating_point() and classes.dtype != torch.bool
    if not whole or classes.shape != scores.shape[:1] or not bool(((classes >= 0) & (classes < scores.shape[1])).all()):
        got = target.tolist() if isinstance(target, Tensor) else target
        raise ArgumentError("target", got, f"a class, 0…{scores.shape[1] - 1}, or one for each of {len(scores)} inputs")
    return classes.long()


def place_of(text: str, names: Sequence[str] = ()) -> Place:
    """A place from text, as Python would index a layer: "conv2[5, 3, 7]", "conv2[5, 2:6, :]", "conv2[5]"."""
    found = re.fullmatch(r"\s*([\w.:]*)\s*\[([\d\s,:]*)\]\s*", text)
    if found is None:
        if names:
            raise UnknownNameError("target", text, names)
        raise ArgumentError("target", text, 'a class, or a place such as "conv2[5, 3, 7]"')
    parts = [part.strip() for part in found[2].split(",") if part.strip()]
    index: list[Index] = []
    for part in parts:
        ends = part.split(":")
        if len(ends) > 2:
            raise ArgumentError("target", text, "ranges of two ends, 2:6")
        numbers = [int(end) if end.strip() else None for end in ends]
        first = numbers[0]
        index.append(slice(*numbers) if len(ends) == 2 else (first if first is not None else slice(None)))
    return Place(found[1], *index)
