"""From examples and their order to batches where the model is: fetched, moved, passed through the stages."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic

import torch
from torch import Tensor
from typing_extensions import TypeVar

from convscope import seeding
from convscope.data.augment import Augmentation
from convscope.data.augment.moves import Move, moved_boxes
from convscope.data.examples import Batch, Examples, device_of
from convscope.data.kinds.boxes import BoxTargets
from convscope.data.order import Order
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing

E = TypeVar("E", bound=Examples)

# Seconds in which a batch on disk is not worth a thread: 64 pictures of 32×32 take 0.1 ms where the system still has
# the file in memory, and a step of LeNet-5 on two cores takes 2.2 ms.
QUICK = 3e-4


@dataclasses.dataclass(frozen=True)
class Stage:
    """A pure function of batches that draws all its chance from the generator that it is given.

    That generator depends on the run's seed, the stage's ``name``, the epoch and the batch's number alone. Of several
    processes all have the same one: what is drawn for each example goes through ``seeding.drawn``, which leaves this
    process's part of the whole batch's, so that the number of processes makes no difference.
    """

    name: str
    call: Callable[[Batch, torch.Generator], Batch]


@dataclasses.dataclass(frozen=True)
class FixedStage:
    """A stage without chance; a generator costs some 15 µs, which nobody need pay for nothing."""

    name: str
    call: Callable[[Batch], Batch]


class Feed(Generic[E]):
    """The batches of one epoch, one after another: ``for batch in Feed(examples, Order(len(examples), 64, seed=1))``.

    ``order`` says which examples, and which of them are this process's. Each batch is moved to ``device`` (None: it
    stays where the examples are; of several processes one whose share is empty gets the batch's first example, which
    counts and weighs nothing), through pinned memory where it comes from the CPU to a GPU, and then passes through
    ``stages`` in turn. Examples on disk are read at once while a batch takes less than ``quick`` seconds, then ahead:
    ``readers`` threads, at most ``ahead`` batches each beyond the one in use, in the order's order; what a reader
    raises is raised here when its batch's turn comes.
    """

    def __init__(
        self,
        examples: E,
        order: Order,
        stages: Sequence[Stage | FixedStage] = (),
        device: torch.device | str | None = None,
        *,
        readers: int = 2,
        ahead: int = 2,
        quick: float = QUICK,
    ) -> None:
        if order.examples != len(examples):
            raise ArgumentError("order", f"an order of {order.examples} examples", f"one of {len(examples)}")
        if readers < 1 or ahead < 1:
            raise ArgumentError("readers", (readers, ahead), "at least one thread and one batch ahead")
        self.examples, self.order, self.stages = examples, order, tuple(stages)
        self.device = None if device is None else torch.device(device)
        self.readers, self.ahead, self.quick = readers, ahead, quick

    @property
    def count(self) -> int:
        """Batches of the epoch."""
        return self.order.count

    def __len__(self) -> int:
        """Batches still to come, those before the order's ``start`` not counted."""
        return len(self.order)

    def whole(self, index: int) -> tuple[int, float]:
        """(examples, weight) of batch ``index`` over all processes."""
        indices = self.order.whole(index)
        return len(indices), self.examples.weight(indices)

    def __iter__(self) -> Iterator[Batch]:
        fetched = self._from_disk() if self.examples.on_disk else self._at_hand()
        moves = self.device is not None and self.device != device_of(self.examples)
        with contextlib.closing(fetched):
            for index, batch in enumerate(fetched, self.order.start):
                here = batch.map(self._moved) if moves else batch
                yield self._staged(here, index) if self.stages else here

    def _at_hand(self) -> Generator[Batch]:
        home = device_of(self.examples)
        order = self.order if home.type == "cpu" else self.order.to(home)  # once, not each batch's indices: those wait
        for index in range(order.start, order.count):
            yield self._fetched(order, index)

    def _fetched(self, order: Order, index: int) -> Batch:
        own = order.own(index)
        if len(own):
            return self.examples.batch(own)
        return dataclasses.replace(self.examples.batch(order.whole(index)[:1]), examples=0, weight=0.0)

    def _from_disk(self) -> Generator[Batch]:
        """Batches read at once while that is quick, then by threads. A thread that reads 64 small pictures takes turns
        with the training one a hundred times, which costs a step more than if it reads them in its own time."""
        index, quick = self.order.start, self.quick > 0
        while quick and index < self.order.count:
            begun = time.perf_counter()
            batch = self._fetched(self.order, index)
            quick = time.perf_counter() - begun < self.quick
            yield batch
            index += 1
        yield from self._read_ahead(index)

    def _read_ahead(self, start: int) -> Generator[Batch]:
        waiting: collections.deque[concurrent.futures.Future[Batch]] = collections.deque()
        readers = concurrent.futures.ThreadPoolExecutor(self.readers, "convscope-reader")
        try:
            for index in range(start, self.order.count):
                waiting.append(readers.submit(self._fetched, self.order, index))
                if len(waiting) > self.readers * self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Whoever stops early waits for the batches being read, at most one a thread; those not begun are dropped.
            readers.shutdown(wait=True, cancel_futures=True)

    def _moved(self, tensor: Tensor) -> Tensor:
        device = self.device
        assert device is not None
        if tensor.device == device:
            return tensor
        # the pinned block goes back to torch's cache only after the copy has run, so it needs no keeping alive here
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(device, non_blocking=True)

    def _staged(self, batch: Batch, index: int) -> Batch:
        for stage in self.stages:
            batch = stage.call(batch, self._chance(stage, index)) if isinstance(stage, Stage) else stage.call(batch)
        return batch

    def _chance(self, stage: Stage, index: int) -> torch.Generator:
        order = self.order
        names = (stage.name, order.epoch, index, 0)
        if order.world == 1:
            return seeding.generator(order.seed, *names)
        first, last = order.share(index)
        if first == last:  # one example in their place, which nobody looks at
            first, last = 0, 1
        return seeding.SharedChance.of(seeding.derive(order.seed, *names), first, last, order.size(index))


def fitting(preprocessing: Preprocessing) -> FixedStage:
    """The stage that brings pictures, the first of a batch's inputs, to a model's size and channels."""

    def fit(batch: Batch) -> Batch:
        pictures, *others = batch.inputs
        return dataclasses.replace(batch, inputs=(prepare(pictures, preprocessing), *others))

    return FixedStage("fit", fit)


def augmenting(augmentation: Augmentation, ignored: int | None = None) -> Stage:
    """The stage that augments pictures, the first of a batch's inputs, and moves what belongs to them.

    ``BoxTargets`` move with their pictures: what is left narrower than a pixel is dropped, and the sizes of the
    pictures, their second input, become those of the whole batch. With ``ignored`` the targets are maps, int64
    (n, h, w), which move by the nearest pixel. Other targets stay as they are.
    """

    def augment(batch: Batch, generator: torch.Generator) -> Batch:
        pictures, *others = batch.inputs
        targets: Any = batch.targets
        if ignored is None and not isinstance(targets, BoxTargets):
            return dataclasses.replace(batch, inputs=(augmentation(pictures, generator), *others))
        moves: list[Move] = []
        moved = augmentation(pictures, generator, moves)
        if isinstance(targets, BoxTargets):
            if moves:
                others[0] = torch.tensor(moved.shape[2:], device=others[0].device).expand_as(others[0]).contiguous()
            targets = _moved_targets(targets, moves, (moved.shape[2], moved.shape[3]))
        else:
            assert ignored is not None
            for move in moves:
                targets = move.maps(targets, ignored)
        return dataclasses.replace(batch, inputs=(moved, *others), targets=targets)

    return Stage("augment", augment)


def _moved_targets(targets: BoxTargets, moves: list[Move], size: tuple[int, int]) -> BoxTargets:
    owners = targets.pictures()
    boxes, kept = moved_boxes(moves, targets.boxes, owners, size) if moves else (targets.boxes, None)
    if kept is None:
        return targets
    counts = torch.bincount(owners[kept], minlength=len(targets.counts))
    return BoxTargets(boxes[kept], targets.labels[kept], targets.difficult[kept], counts)
