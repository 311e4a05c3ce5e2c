"""Turned, scaled, moved and cluttered digits: sizes, chance by seed, nothing lost, what is refused."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from convscope import load_dataset
from convscope.data import mnist_variants
from convscope.data.mnist_variants import changed
from convscope.errors import ArgumentError, UnknownNameError


def digits(count: int = 40) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 6:22, 9:19] = torch.randint(1, 256, (count, 1, 16, 10), generator=chance, dtype=torch.uint8)
    return images


@pytest.mark.parametrize(("variant", "side"), [("plain", 28), ("rotated", 28), ("rts", 42), ("cluttered", 60)])
def test_sizes_and_chance(variant: str, side: int) -> None:
    images = digits()
    made = changed(images, variant, 3, "train")
    assert made.shape == (40, 1, side, side)
    assert made.dtype == torch.uint8
    assert torch.equal(made, changed(images, variant, 3, "train"))
    if variant != "plain":
        assert not torch.equal(made, changed(images, variant, 4, "train"))
        assert not torch.equal(made, changed(images, variant, 3, "test"))


def test_batches_make_no_difference_to_what_a_digit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_variants, "_AT_ONCE", 7)
    assert changed(digits(), "rts", 0, "train").shape == (40, 1, 42, 42)


def test_a_moved_digit_is_all_there() -> None:
    """Brightness goes by the square of the scale; the turn is what was drawn."""
    images = torch.full((200, 1, 28, 28), 200, dtype=torch.uint8)
    chance = torch.Generator().manual_seed(1)
    made = mnist_variants._moved(images, 42, 0.0, (0.7, 1.2), chance).float()
    scale = (made.sum((1, 2, 3)) / 200).sqrt() / 28
    assert 0.69 < float(scale.min()) < 0.75
    assert 1.15 < float(scale.max()) < 1.21
    edge = torch.cat([made[..., 0, :], made[..., -1, :]]).amax()
    assert edge < 200  # inside, but for the half pixels of an edge


def test_without_a_turn_and_scale_nothing_changes() -> None:
    images = digits()
    made = mnist_variants._moved(images, 28, 0.0, (1.0, 1.0), torch.Generator().manual_seed(0))
    assert torch.equal(made, images)


def test_a_turn_is_by_that_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    """By 90°, which pixels meet pixels."""
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.ones(*shape))
    made = mnist_variants._moved(digits(3), 28, math.pi / 2, (1.0, 1.0), torch.Generator())
    turned = [numpy.rot90(digits(3)[:, 0].numpy(), times, axes=(1, 2)) for times in (1, 3)]
    assert any(numpy.abs(made[:, 0].numpy().astype(int) - each.astype(int)).max() <= 1 for each in turned)


def test_clutter_covers_no_digit() -> None:
    """Somewhere the digit is to be found, nowhere darker than it was; and there is more than it."""
    images = digits(12)
    made = changed(images, "cluttered", 0, "train")
    for own, picture in zip(images, made, strict=True):
        windows = picture[0].unfold(0, 28, 1).unfold(1, 28, 1)  # (33, 33, 28, 28)
        assert bool((windows >= own[0]).all(3).all(2).any())
        assert int(picture.long().sum()) > int(own.long().sum())


def test_a_file_of_mnist_gives_its_variants(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("t10k", 3)):
        pixels = digits(count).numpy().tobytes()
        (tmp_path / "mnist").mkdir(exist_ok=True)
        head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (count, 28, 28))
        (tmp_path / "mnist" / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels))
        labels = bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes(range(count))
        (tmp_path / "mnist" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    data = load_dataset("mnist", root=tmp_path, variant="cluttered", seed=2)
    assert (data.name, data.shape, len(data.train), len(data.test)) == ("mnist-cluttered", (1, 60, 60), 5, 3)
    assert torch.equal(data.train.images, changed(digits(5), "cluttered", 2, "train"))
    with pytest.raises(UnknownNameError, match="variant: got 'clutered'.*Did you mean 'cluttered'"):
        load_dataset("mnist", root=tmp_path, variant="clutered")
    with pytest.raises(ArgumentError, match="seed: got -1, wanted an integer ≥ 0"):
        load_dataset("mnist", root=tmp_path, variant="rts", seed=-1)
