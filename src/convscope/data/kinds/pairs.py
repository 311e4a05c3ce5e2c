"""Two examples each, and whether they are of the same class: what verification learns from and is tested on."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope import seeding
from convscope.data.examples import Batch
from convscope.data.kinds.labelled import Labelled
from convscope.data.kinds.labelled_on_disk import LabelledOnDisk
from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pairs:
    """Pairs of pictures; each pair weighs 1.

    A batch's inputs are the first pictures and the second, uint8 (n, c, h, w) each; its targets int64 (n,): 1 where
    both are of the same class, else 0. ``first`` and ``second`` are places among ``examples``, int64 (n,), ``same``
    bool (n,). ``folds``, int64 (n,), says which part of a cross-validation each pair belongs to, where there is one.
    """

    kind: ClassVar[str] = "pairs"
    lengths: ClassVar[Tensor | None] = None

    examples: Labelled | LabelledOnDisk
    first: Tensor
    second: Tensor
    same: Tensor
    folds: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.first)
        for name in ("first", "second"):
            places = getattr(self, name)
            if places.dtype != torch.int64 or places.shape != (count,):
                raise ArgumentError(name, tuple(places.shape), f"places, int64 ({count},)")
            if count and not 0 <= int(places.min()) <= int(places.max()) < len(self.examples):
                got = f"places {int(places.min())} … {int(places.max())}"
                raise ArgumentError(name, got, f"places among {len(self.examples)} examples")
        if self.same.dtype != torch.bool or self.same.shape != (count,):
            raise ArgumentError("same", tuple(self.same.shape), f"bool ({count},)")
        if self.folds is not None and self.folds.shape != (count,):
            raise ArgumentError("folds", tuple(self.folds.shape), f"int64 ({count},)")

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs, {int(self.same.sum())} of them of the same class)"

    @property
    def on_disk(self) -> bool:
        """Whether the pictures are read while training."""
        return self.examples.on_disk

    @property
    def channels(self) -> int:
        """Of a picture."""
        return self.examples.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        return self.examples.shape

    def batch(self, indices: Tensor) -> Batch:
        """((first (n, c, h, w), second (n, c, h, w)), same (n,))."""
        first = self.examples.batch(self.first[indices]).inputs
        second = self.examples.batch(self.second[indices]).inputs
        return Batch((*first, *second), self.same[indices].to(torch.int64), len(indices), float(len(indices)))

    def weight(self, indices: Tensor) -> float:
        """Their number."""
        return float(len(indices))

    def select(self, indices: Tensor) -> Pairs:
        """The pairs at ``indices``, in that order."""
        folds = None if self.folds is None else self.folds[indices]
        return Pairs(self.examples, self.first[indices], self.second[indices], self.same[indices], folds)

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of the pictures."""
        return self.examples.statistics(channels)

    def some_pictures(self, most: int) -> Iterator[Tensor]:
        """About ``most`` pictures, evenly spaced: uint8 (m, c, h, w)."""
        return self.examples.some_pictures(most)

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 of the pairs and of some 256 pictures."""
        for tensor in (self.first, self.second, self.same):
            checksum = zlib.crc32(tensor.numpy().tobytes(), checksum)
        return self.examples.fingerprint(checksum)

    def describe(self) -> dict[str, Any]:
        """{"pairs": their number}."""
        return {"pairs": len(self)}

    def check_test(self, test: Pairs) -> None:
        """ArgumentError where the pictures have another shape."""
        if self.shape != test.shape:
            raise ArgumentError("test", test.shape, f"pictures of train's shape, {self.shape}")


def draw_pairs(examples: Labelled | LabelledOnDisk, count: int, seed: int) -> Pairs:
    """``count`` different pairs of ``examples``, half of them of one class (of an odd number the larger half), in
    random order; which ones depends on ``seed`` alone.

    Pairs of one class are drawn uniformly among all such pairs, those of two classes among all such. Raises
    ArgumentError where there are not so many.
    """
    labels = examples.labels.cpu()
    sizes = torch.bincount(labels, minlength=len(examples.classes))
    alike = int((sizes * (sizes - 1) // 2).sum())
    available = alike, len(labels) * (len(labels) - 1) // 2 - alike
    wanted = count - count // 2, count // 2
    if count < 1 or wanted[0] > available[0] or wanted[1] > available[1]:
        most = f"there are {available[0]:,} pairs of one class and {available[1]:,} of two"
        raise ArgumentError("count", count, f"at least 1 and half of it of each sort, but {most}")
    chance = seeding.generator(seed, "pairs")
    by_class = labels.argsort(stable=True)
    firsts = sizes.cumsum(0) - sizes

    def of_one(number: int) -> Tensor:
        groups = torch.multinomial((sizes * (sizes - 1)).double(), number, replacement=True, generator=chance)
        members = _two_of(sizes[groups], chance)
        return by_class[firsts[groups] + members]  # (2, number)

    def of_two(number: int) -> Tensor:
        both = _two_of(torch.full((number,), len(labels)), chance)
        return both[:, labels[both[0]] != labels[both[1]]]

    pairs = [_different(*part, len(labels)) for part in ((of_one, wanted[0]), (of_two, wanted[1]))]
    order = torch.randperm(count, generator=chance)
    first, second = torch.cat(pairs, 1)[:, order]
    return Pairs(examples, first, second, (torch.arange(count) < wanted[0])[order])


def _two_of(sizes: Tensor, chance: torch.Generator) -> Tensor:
    """Two different numbers below each of ``sizes``: int64 (2, n)."""
    below = torch.stack([sizes, sizes - 1])
    first, second = (torch.rand(below.shape, generator=chance, dtype=torch.float64) * below).to(torch.int64)
    return torch.stack([first, second + (second >= first)])


def _different(propose: Callable[[int], Tensor], count: int, examples: int) -> Tensor:
    """The first ``count`` pairs proposed that are not the same two examples again: int64 (2, count)."""
    keys = torch.zeros(0, dtype=torch.int64)
    while len(keys) < count:
        proposed = propose(2 * (count - len(keys)) + 16)
        keys = torch.cat([keys, proposed.amin(0) * examples + proposed.amax(0)])
        _, which = torch.unique(keys, return_inverse=True)
        places = torch.arange(len(keys))
        earliest = torch.full_like(keys, len(keys)).scatter_reduce(0, which, places, "amin")
        keys = keys[earliest[which] == places]
    return torch.stack([keys[:count] // examples, keys[:count] % examples])
