"""What stands for a tensor while a model is lowered: a view of positions that the engine holds.

The engine keeps maps, (channels, height, width) positions an image. A tensor of the model has any number of sides
behind the batch; ``sizes`` and ``strides`` say which position each of its numbers is, as torch's strides do for memory.
Reshapes, permutes and slices so cost nothing until a layer wants the positions in another order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from convscope.lowering.plan import Shape

Sizes = tuple[int, ...]


def row_major(sizes: Sequence[int]) -> Sizes:
    """The strides of a tensor whose last side lies together."""
    return tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))


def folded(sizes: Sequence[int]) -> Shape:
    """Maps that hold ``sizes`` in order: features as maps of 1×1, a second side as the width."""
    if len(sizes) <= 1:
        return (math.prod(sizes), 1, 1)
    if len(sizes) == 2:
        return (sizes[0], 1, sizes[1])
    return (math.prod(sizes[:-2]), sizes[-2], sizes[-1])


@dataclasses.dataclass(frozen=True)
class Value:
    """Value ``number`` of the plan, of ``shape`` in the engine, as a tensor of ``sizes`` (the batch left out)."""

    number: int
    shape: Shape
    sizes: Sizes
    strides: Sizes
    offset: int = 0

    @staticmethod
    def plain(number: int, shape: Shape, sizes: Sizes | None = None) -> Value:
        """All positions in order, as a tensor of ``sizes``; None: the maps themselves."""
        sizes = shape if sizes is None else sizes
        return Value(number, shape, sizes, row_major(sizes))

    @property
    def size(self) -> int:
        """Numbers an image."""
        return math.prod(self.sizes)

    @property
    def positions(self) -> int:
        """What the engine holds, of which the tensor may be a part."""
        return math.prod(self.shape)

    @property
    def in_order(self) -> bool:
        """Whether the tensor is all positions in their order."""
        return self.offset == 0 and self.size == self.positions and self._strides_are(row_major(self.sizes))

    @property
    def is_whole(self) -> bool:
        """Whether the tensor has each position once, in whatever order."""
        return self.offset == 0 and self.size == self.positions and self.memory_order is not None

    @property
    def memory_order(self) -> Sizes | None:
        """The sides by falling strides, where in this order they are all positions; else None."""
        order = tuple(
            sorted(range(len(self.sizes)), key=lambda axis: (-self.strides[axis], self.sizes[axis] == 1, axis))
        )
        sorted_value = self.permuted(order)
        fits = self.offset == 0 and self.size == self.positions
        return order if fits and sorted_value._strides_are(row_major(sorted_value.sizes)) else None

    def _strides_are(self, strides: Sizes) -> bool:
        return all(
            size == 1 or own == other for size, own, other in zip(self.sizes, self.strides, strides, strict=True)
        )

    @property
    def is_maps(self) -> bool:
        return self.sizes == self.shape and self.in_order

    @property
    def is_features(self) -> bool:
        return len(self.sizes) == 1 and self.in_order

    def permuted(self, order: Sequence[int]) -> Value:
        sizes = tuple(self.sizes[axis] for axis in order)
        return dataclasses.replace(self, sizes=sizes, strides=tuple(self.strides[axis] for axis in order))

    def like(self, number: int, shape: Shape | None = None) -> Value:
        """The same view of another value, whose positions lie alike."""
        return dataclasses.replace(self, number=number, shape=self.shape if shape is None else shape)

    def sliced(self, axis: int, part: range) -> Value:
        """Every ``part.step``-th of one side, which is not empty."""
        sizes, strides = list(self.sizes), list(self.strides)
        sizes[axis], strides[axis] = len(part), strides[axis] * part.step
        offset = self.offset + part.start * self.strides[axis]
        return Value(self.number, self.shape, tuple(sizes), tuple(strides), offset)

    def chosen(self, axis: int, index: int) -> Value:
        """One of a side, which is no more."""
        part = self.sliced(axis, range(index, index + 1))
        return part.without(axis)

    def without(self, axis: int) -> Value:
        """Without a side of 1."""
        keep = [each for each in range(len(self.sizes)) if each != axis]
        return self.permuted(keep)

    def with_new(self, axis: int) -> Value:
        """With a side of 1 more."""
        sizes = (*self.sizes[:axis], 1, *self.sizes[axis:])
        return dataclasses.replace(self, sizes=sizes, strides=(*self.strides[:axis], 0, *self.strides[axis:]))

    def expanded(self, sizes: Sequence[int]) -> Value:
        """Sides of 1 repeated; ``sizes`` has as many sides."""
        pairs = zip(self.sizes, sizes, self.strides, strict=True)
        strides = tuple(0 if size != wanted else stride for size, wanted, stride in pairs)
        return dataclasses.replace(self, sizes=tuple(sizes), strides=strides)

    def viewed(self, sizes: Sizes) -> Value | None:
        """The same numbers in the same order as ``sizes``; None where that is no view."""
        strides = _view_strides(self.sizes, self.strides, sizes)
        return None if strides is None else dataclasses.replace(self, sizes=sizes, strides=strides)


def _view_strides(old: Sizes, strides: Sizes, new: Sizes) -> Sizes | None:
    """The strides of a view; sides of ``old`` that lie one behind the other may be joined and cut anew."""
    if math.prod(old) != math.prod(new):
        return None
    chunks: list[tuple[int, int]] = []  # (numbers, stride of the last), of sides that are one
    for size, stride in zip(old, strides, strict=True):
        if size == 1:
            continue
        if chunks and chunks[-1][1] == stride * size:
            chunks[-1] = (chunks[-1][0] * size, stride)
        else:
            chunks.append((size, stride))
    found: list[int] = []
    place = len(chunks) - 1
    left, step = (1, 1) if place < 0 else chunks[place]
    for size in reversed(new):
        if size == 1:
            found.append(step)
            continue
        if left == 1 and place > 0:
            place -= 1
            left, step = chunks[place]
        if left % size:
            return None
        found.append(step)
        left, step = left // size, step * size
    return tuple(reversed(found))
