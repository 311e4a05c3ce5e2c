"""Which examples make up which batch: integers alone, from the seed, startable anywhere, shared between processes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from convscope import seeding
from convscope.errors import ArgumentError

# Batches whose examples are sorted by length together. Of Multi30k's sentences (2 to 46 words, batches of 64) 7 % of
# the places are then padding, of one batch alone 50 %, of all sorted together 1 %, but then always the same together.
_SORTED_TOGETHER = 32


class Order:
    """The batches of one epoch as indices of ``examples`` examples: ``whole(i)`` of all processes, ``own(i)`` of this.

    The order depends on ``seed`` and ``epoch`` alone, so an interrupted epoch goes on exactly with ``start``, the
    number of batches done; ``count``, the number of batches, depends on neither. The last batch has what is left over.

    With ``world`` processes, ``batch_size`` is the whole batch and the process ``rank`` gets its contiguous share of
    each; shares differ by at most one example. Of a last batch with fewer examples than processes some get none. The
    batches themselves do not depend on ``world``.

    With ``lengths``, int64 (examples,), batches hold examples of similar length, and the batches themselves are
    shuffled. With ``tokens`` as well there is no ``batch_size``: a batch holds as many examples as fit, n times the
    longest of them being at most ``tokens``. Which lengths come together is then the same in every epoch, which of the
    examples of equal length is not. ``shuffle=False`` leaves the examples in their own order (with ``tokens``: sorted
    by length).

    Raises ArgumentError for sizes, ranks or starts that cannot be.
    """

    def __init__(
        self,
        examples: int,
        batch_size: int | None,
        seed: int = 0,
        epoch: int = 0,
        *,
        shuffle: bool = True,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        lengths: Tensor | None = None,
        tokens: int | None = None,
    ) -> None:
        if examples < 1:
            raise ArgumentError("examples", examples, "at least one example")
        if world < 1 or not 0 <= rank < world:
            raise ArgumentError("rank", rank, f"a process number from 0 to world − 1, world = {world}")
        if examples < world:
            raise ArgumentError("world", world, f"at most as many processes as examples, {examples}")
        if lengths is not None and lengths.shape != (examples,):
            raise ArgumentError("lengths", tuple(lengths.shape), f"one for each of the {examples} examples")
        self.examples, self.batch_size, self.seed, self.epoch = examples, batch_size, seed, epoch
        self.start, self.rank, self.world = start, rank, world
        if tokens is None:
            self._by_count(_checked_size(batch_size, world), shuffle, lengths)
        else:
            if batch_size is not None:
                raise ArgumentError("batch_size", batch_size, "None beside tokens: a batch is measured in one of them")
            if lengths is None:
                raise ArgumentError("tokens", tokens, "examples that have lengths")
            self._by_tokens(tokens, shuffle, lengths)
        if not 0 <= start <= self.count:
            raise ArgumentError("start", start, f"a batch number from 0 to {self.count}")

    def __len__(self) -> int:
        """Batches still to come, those before ``start`` not counted."""
        return self.count - self.start

    @property
    def count(self) -> int:
        """Batches of the epoch."""
        return len(self._bounds)

    def size(self, index: int) -> int:
        """Examples of batch ``index`` over all processes."""
        first, last = self._bounds[index]
        return last - first

    def whole(self, index: int) -> Tensor:
        """The examples of batch ``index`` over all processes: int64 (n,)."""
        first, last = self._bounds[index]
        return self._order[first:last]

    def own(self, index: int) -> Tensor:
        """This process's share of them: int64 (n,)."""
        before, (first, last) = self._bounds[index][0], self.share(index)
        return self._order[before + first : before + last]

    def share(self, index: int) -> tuple[int, int]:
        """(first, last) of this process's share among the ``size`` examples of batch ``index``."""
        size = self.size(index)
        return size * self.rank // self.world, size * (self.rank + 1) // self.world

    def to(self, device: torch.device | str) -> Order:
        """The same with its indices on ``device``, where the examples are kept there."""
        moved = object.__new__(Order)
        moved.__dict__.update(self.__dict__, _order=self._order.to(device))
        return moved

    def _by_count(self, batch_size: int, shuffle: bool, lengths: Tensor | None) -> None:
        bounds = [(first, min(first + batch_size, self.examples)) for first in range(0, self.examples, batch_size)]
        self._order = self._permutation(shuffle)
        self._bounds = bounds
        if lengths is None or not shuffle:
            return
        together = batch_size * _SORTED_TOGETHER
        parts = [part[lengths[part].argsort(stable=True)] for part in torch.split(self._order, together)]
        self._order = torch.cat(parts)
        self._shuffle_batches()

    def _by_tokens(self, tokens: int, shuffle: bool, lengths: Tensor) -> None:
        longest = int(lengths.max())
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < longest:
            raise ArgumentError("tokens", tokens, f"room for the longest example, {longest} tokens")
        order = self._permutation(shuffle)
        self._order = order[lengths[order].argsort(stable=True, descending=True)]
        self._bounds = _filled(lengths[self._order].tolist(), tokens)
        if shuffle:
            self._shuffle_batches()

    def _permutation(self, shuffle: bool) -> Tensor:
        if not shuffle:
            return torch.arange(self.examples)
        return torch.randperm(self.examples, generator=seeding.generator(self.seed, "shuffle", self.epoch))

    def _shuffle_batches(self) -> None:
        chance = seeding.generator(self.seed, "shuffle batches", self.epoch)
        self._bounds = [self._bounds[place] for place in torch.randperm(self.count, generator=chance).tolist()]


def _checked_size(batch_size: int | None, world: int) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ArgumentError("batch_size", batch_size, "an integer ≥ 1")
    if batch_size < world:
        raise ArgumentError("batch_size", batch_size, f"at least one example for each of the {world} processes")
    return batch_size


def _filled(lengths: Sequence[int], tokens: int) -> list[tuple[int, int]]:
    """Cuts of the falling ``lengths`` into batches of at most ``tokens`` places, padding included."""
    firsts = [0]
    for place, _ in enumerate(lengths):
        if (place + 1 - firsts[-1]) * lengths[firsts[-1]] > tokens:
            firsts.append(place)
    return list(itertools.pairwise([*firsts, len(lengths)]))
