"""Batches of pictures by indexing: shuffled from the seed, startable anywhere, shared out between processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from convscope import seeding
from convscope.data.augment import Augmentation, parse_augmentation
from convscope.data.kinds.labelled import Labelled
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing

Batch = tuple[torch.Tensor, torch.Tensor]


class Batches:
    """The batches of one epoch: ``for images, labels in Batches(split, 64, seed=1, epoch=3)``.

    ``images`` is uint8 (n, c, h, w), ``labels`` int64 (n,); the last batch has what is left over. The order depends on
    ``seed`` and ``epoch`` alone, so an interrupted epoch goes on exactly with ``start``, the number of batches done.

    With ``world`` processes, ``batch_size`` is the whole batch and the process ``rank`` gets its contiguous share of
    each; shares differ by at most one picture. A last batch with fewer pictures than processes is left out.

    ``preprocessing`` prepares each batch to the model's size, for splits too large to be prepared as a whole.
    ``device`` moves the batches, through pinned memory where the split is on the CPU and the device is not.
    ``augment`` (see ``convscope.data.augment``) acts on the prepared batch; its chance depends on ``seed``, ``epoch``,
    the batch's number and the rank alone. Given as text it is fitted to ``split``; given parsed, it is taken as it is.
    Raises ArgumentError for sizes, ranks or starts that cannot be.
    """

    def __init__(
        self,
        split: Labelled,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        *,
        shuffle: bool = True,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        augment: str | Sequence[str] | Augmentation | None = None,
        preprocessing: Preprocessing | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise ArgumentError("batch_size", batch_size, "an integer ≥ 1")
        if world < 1 or not 0 <= rank < world:
            raise ArgumentError("rank", rank, f"a process number from 0 to world − 1, world = {world}")
        if batch_size < world:
            raise ArgumentError("batch_size", batch_size, f"at least one picture for each of the {world} processes")
        if len(split) == 0:
            raise ArgumentError("split", "no pictures", "a split with pictures")
        self.split, self.batch_size, self.seed, self.epoch = split, batch_size, seed, epoch
        self.rank, self.world, self.start = rank, world, start
        self.preprocessing = preprocessing
        if augment is not None and not isinstance(augment, Augmentation):
            augment = parse_augmentation(augment).fitted(split)
        self.augment = augment
        self.device = torch.device(device) if device is not None else split.images.device
        self.count = len(split) // batch_size + (len(split) % batch_size >= world)
        if self.count == 0:
            raise ArgumentError("world", world, f"at most as many processes as pictures, {len(split)}")
        if not 0 <= start <= self.count:
            raise ArgumentError("start", start, f"a batch number from 0 to {self.count}")
        self._order = epoch_order(len(split), seed, epoch) if shuffle else torch.arange(len(split))

    def __len__(self) -> int:
        """Batches still to come, those before ``start`` not counted."""
        return self.count - self.start

    def global_size(self, index: int) -> int:
        """Pictures of batch ``index`` over all processes."""
        return min(self.batch_size, len(self.split) - index * self.batch_size)

    def indices(self, index: int) -> torch.Tensor:
        """Which pictures of the split this process has in batch ``index``: int64 (n,), on the CPU."""
        first, size = index * self.batch_size, self.global_size(index)
        return self._order[first + size * self.rank // self.world : first + size * (self.rank + 1) // self.world]

    def __iter__(self) -> Iterator[Batch]:
        images, labels = self.split.images, self.split.labels
        order = self._order.to(images.device)
        moves = self.device != images.device
        for index in range(self.start, self.count):
            first, size = index * self.batch_size, self.global_size(index)
            chosen = order[first + size * self.rank // self.world : first + size * (self.rank + 1) // self.world]
            batch, numbers = images.index_select(0, chosen), labels.index_select(0, chosen)
            if moves:
                batch, numbers = _moved(batch, self.device), _moved(numbers, self.device)
            if self.preprocessing is not None:
                batch = prepare(batch, self.preprocessing)
            if self.augment is not None:
                batch = self.augment(batch, seeding.generator(self.seed, "augment", self.epoch, index, self.rank))
            yield batch, numbers


def epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The permutation of ``count`` pictures in ``epoch``: int64 (count,), on the CPU."""
    return torch.randperm(count, generator=seeding.generator(seed, "shuffle", epoch))


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    # the pinned block goes back to torch's cache only after the copy has run, so it needs no keeping alive here
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
