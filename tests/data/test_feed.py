from __future__ import annotations

import dataclasses
import threading
import zlib
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from convscope import seeding
from convscope.data import Batch, Feed, FixedStage, Labelled, Order, Stage, augmenting, fitting
from convscope.data.augment import parse_augmentation
from convscope.errors import ArgumentError, DataError
from convscope.spec import Preprocessing


def numbered(count: int) -> Labelled:
    """Picture k begins with 7·k, its label is k modulo 5."""
    values = torch.arange(count)
    images = (values.reshape(-1, 1, 1, 1) * 7 + torch.arange(48).reshape(1, 1, 6, 8) * 3).to(torch.uint8)
    return Labelled(images, values % 5, tuple("abcde"))


def feed(count: int, batch_size: int, *args: Any, augment: str | None = None, **options: Any) -> Feed[Labelled]:
    stages = [] if augment is None else [augmenting(parse_augmentation(augment))]
    return Feed(numbered(count), Order(count, batch_size, *args, **options), stages)


def checksum(batches: Feed[Labelled]) -> int:
    result = 0
    for batch in batches:
        for tensor in batch.tensors():
            result = zlib.crc32(tensor.contiguous().numpy().tobytes(), result)
    return result


def test_batches_are_the_examples_at_the_order_s_places() -> None:
    split = numbered(33)
    batches = feed(33, 16, seed=1)
    assert (batches.count, len(batches)) == (3, 3)
    for index, batch in enumerate(batches):
        places = batches.order.whole(index)
        assert torch.equal(batch.inputs[0], split.images[places])
        assert torch.equal(batch.targets, split.labels[places])
        assert (batch.examples, batch.weight) == (len(places), len(places))
        assert batches.whole(index) == (len(places), float(len(places)))


def test_the_batches_of_a_seed_are_for_ever() -> None:
    """Runs begun by earlier versions go on with exactly these pixels; flips and whole-pixel shifts are integers."""
    assert checksum(feed(50, 8, 5, 1)) == 159522042
    assert checksum(feed(50, 8, 5, 1, augment="crop:2,flip")) == 2288197959
    assert checksum(feed(50, 8, 5, 1, augment="crop:2,flip", rank=1, world=2)) == 3806630584


COLOURS = "brightness:0.3,contrast:0.3,saturation:0.4,hue:20,pca:0.1"


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("augment", ["flip", "crop:2", "rotate:10,scale:0.1", "elastic:10:2", "cutout:3", COLOURS])
def test_what_becomes_of_a_picture_does_not_depend_on_the_number_of_processes(augment: str, world: int) -> None:
    """11 pictures in batches of 8: shares differ in size, and the last batch has as many pictures as processes."""
    chance = torch.Generator().manual_seed(1)
    pictures = Labelled(
        torch.randint(0, 256, (11, 3, 6, 8), generator=chance, dtype=torch.uint8),
        torch.arange(11),
        tuple("abcdefghijk"),
    )
    stage = augmenting(parse_augmentation(augment).fitted(pictures))

    def batches(rank: int, world: int) -> list[Batch]:
        return list(Feed(pictures, Order(11, 8, 3, 2, rank=rank, world=world), [stage]))

    alone = batches(0, 1)
    together = [batches(rank, world) for rank in range(world)]
    changed = 0
    for index, whole in enumerate(alone):
        shares = [each[index] for each in together]
        assert torch.equal(torch.cat([each.targets for each in shares]), whole.targets)
        found = torch.cat([each.inputs[0] for each in shares])
        # a sum that is taken in another order may fall on the other side of half a grey level
        assert (found.int() - whole.inputs[0].int()).abs().max() <= 1
        assert (found != whole.inputs[0]).float().mean() < 0.01
        changed += int((whole.inputs[0] != pictures.images[whole.targets]).sum())
    assert changed > 50, "the canary: something was done to the pictures"


def test_a_process_without_a_share_gets_an_example_that_counts_for_nothing() -> None:
    batches = list(feed(9, 7, 1, augment="crop:1,flip", rank=0, world=4))
    assert [(each.examples, each.weight, len(each.inputs[0])) for each in batches] == [(1, 1.0, 1), (0, 0.0, 1)]


def test_a_share_of_chance_is_a_part_of_the_whole() -> None:
    def draw(generator: torch.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        first = seeding.drawn(generator, count, lambda n: torch.rand((n, 2), generator=generator))
        return first, seeding.drawn(generator, count, lambda n: torch.randn((3, n), generator=generator), 1)

    whole = draw(torch.Generator().manual_seed(5), 7)
    part = draw(seeding.SharedChance.of(5, 2, 6, 7), 4)
    assert torch.equal(part[0], whole[0][2:6])
    assert torch.equal(part[1], whole[1][:, 2:6])
    with pytest.raises(AssertionError, match="one draw for each example"):
        draw(seeding.SharedChance.of(5, 2, 6, 7), 3)


@pytest.mark.parametrize("augment", [None, "crop:2,flip", "rotate:10,elastic:10:2"])
def test_starting_in_mid_epoch_continues_exactly(augment: str | None) -> None:
    whole = list(feed(50, 8, seed=5, epoch=1, augment=augment))
    rest = list(feed(50, 8, seed=5, epoch=1, augment=augment, start=4))
    assert len(rest) == len(whole) - 4
    for batch, wanted in zip(rest, whole[4:], strict=True):
        assert all(map(torch.equal, batch.tensors(), wanted.tensors()))
    assert list(feed(50, 8, start=7)) == []


def test_stages_act_in_turn_each_with_its_own_stream() -> None:
    drawn: list[tuple[str, float]] = []

    def drawing(name: str) -> Stage:
        def draw(batch: Batch, generator: torch.Generator) -> Batch:
            drawn.append((name, float(torch.rand((), generator=generator))))
            return batch

        return Stage(name, draw)

    def halved(batch: Batch) -> Batch:
        drawn.append(("half", 0))
        return dataclasses.replace(batch, inputs=(batch.inputs[0] // 2,))

    order = Order(10, 4, 3, 2, start=1, rank=1, world=2)
    batches = list(Feed(numbered(10), order, [drawing("one"), FixedStage("half", halved), drawing("two")]))
    assert [name for name, _ in drawn] == ["one", "half", "two"] * 2
    wanted = [
        float(torch.rand((), generator=seeding.generator(3, name, 2, index, 0)))
        for index in (1, 2)
        for name in ("one", "two")
    ]
    assert [value for name, value in drawn if name != "half"] == wanted
    assert torch.equal(batches[0].inputs[0], numbered(10).images[order.own(1)] // 2)


def test_fitting_and_augmenting_a_batch() -> None:
    preprocessing = Preprocessing(3, (16, 16), (0.5,) * 3, (0.2,) * 3, "pad")
    stages: list[Stage | FixedStage] = [fitting(preprocessing), augmenting(parse_augmentation("translate:1"))]
    batch = next(iter(Feed(numbered(20), Order(20, 6), stages)))
    assert batch.inputs[0].shape == (6, 3, 16, 16)
    assert batch.targets.shape == (6,)


def test_moving_to_a_device() -> None:
    for batch in Feed(numbered(5), Order(5, 2), device="meta"):
        assert {tensor.device.type for tensor in batch.tensors()} == {"meta"}


def test_the_order_must_be_of_these_examples() -> None:
    with pytest.raises(ArgumentError, match="order: got 'an order of 6 examples', wanted one of 5"):
        Feed(numbered(5), Order(6, 2))
    with pytest.raises(ArgumentError, match="readers: got .*, wanted at least one thread and one batch ahead"):
        Feed(numbered(5), Order(5, 2), readers=0)


@dataclasses.dataclass
class Slow:
    """Examples that pretend to be on a disk: they note who reads what, wait where told to, and one may be broken."""

    kind: ClassVar[str] = "slow"
    lengths: ClassVar[torch.Tensor | None] = None
    on_disk: ClassVar[bool] = True

    count: int
    broken: int = -1
    gate: threading.Event | None = None
    reads: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: torch.Tensor) -> Batch:
        self.reads.append((int(indices[0]), threading.current_thread().name))
        if self.gate is not None and int(indices[0]) == 0:
            assert self.gate.wait(20)
        if self.broken in indices.tolist():
            raise DataError(Path(f"{self.broken}.jpg"), "damaged or cut short picture")
        return Batch((indices.clone(),), None, len(indices), self.weight(indices))

    def select(self, indices: torch.Tensor) -> Slow:
        return Slow(len(indices))

    def weight(self, indices: torch.Tensor) -> float:
        return float(indices.sum())

    def fingerprint(self, checksum: int = 0) -> int:
        return checksum

    def describe(self) -> dict[str, Any]:
        return {"numbers": self.count}


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("convscope-reader")]


def test_reading_ahead_keeps_the_order_whichever_batch_is_read_first() -> None:
    slow = Slow(40, gate=threading.Event())
    batches = Feed(slow, Order(40, 4, shuffle=False), readers=2, ahead=2, quick=0)
    stream = iter(batches)
    timer = threading.Timer(0.05, slow.gate.set)  # type: ignore[union-attr]
    timer.start()  # until then batch 0 waits, and the other thread reads the batches after it
    assert [int(batch.inputs[0][0]) for batch in stream] == list(range(0, 40, 4))
    assert {name for _, name in slow.reads} <= {"convscope-reader_0", "convscope-reader_1"}
    assert batches.whole(1) == (4, 4.0 + 5 + 6 + 7)
    timer.join()
    assert readers() == []


def test_reading_ahead_is_bounded() -> None:
    slow = Slow(400)
    stream = iter(Feed(slow, Order(400, 4, shuffle=False), readers=2, ahead=3, quick=0))
    for taken in range(1, 20):
        next(stream)
        assert len(slow.reads) <= taken + 2 * 3 + 1
    stream.close()  # type: ignore[attr-defined]


def test_what_is_read_quickly_needs_no_thread_and_what_turns_slow_gets_some() -> None:
    slow = Slow(40)
    stream = iter(Feed(slow, Order(40, 4, shuffle=False), quick=60))
    assert [int(next(stream).inputs[0][0]) for _ in range(3)] == [0, 4, 8]
    assert {name for _, name in slow.reads} == {threading.current_thread().name}
    feed = Feed(slow, Order(40, 4, shuffle=False), quick=1e-9)  # no batch is as quick
    slow.reads.clear()
    assert [int(batch.inputs[0][0]) for batch in feed] == list(range(0, 40, 4))
    assert [place for place, name in slow.reads if name == threading.current_thread().name] == [0]


@pytest.mark.parametrize("quick", [0, 60])
def test_a_broken_file_is_named_when_its_batch_s_turn_comes(quick: float) -> None:
    stream = iter(Feed(Slow(40, broken=9), Order(40, 4, shuffle=False), quick=quick))
    assert [int(next(stream).inputs[0][0]) for _ in range(2)] == [0, 4]
    with pytest.raises(DataError, match=r"9\.jpg: damaged or cut short picture"):
        next(stream)
    assert readers() == []


def test_stopping_early_ends_the_readers() -> None:
    stream = iter(Feed(Slow(400), Order(400, 4), quick=0))
    next(stream)
    assert readers()
    stream.close()  # type: ignore[attr-defined]
    assert readers() == []


def test_an_interrupted_loop_ends_the_readers() -> None:
    def interrupted(batch: Batch) -> Batch:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Feed(Slow(400), Order(400, 4), [FixedStage("interrupted", interrupted)], quick=0))
    assert readers() == []


def test_examples_in_memory_need_no_thread() -> None:
    for _ in Feed(numbered(50), Order(50, 8)):
        assert readers() == []
