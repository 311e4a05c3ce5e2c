from __future__ import annotations

import pytest
import torch

from convscope import seeding
from convscope.data import Labelled
from convscope.data.augment import KINDS, parse_augmentation
from convscope.errors import ArgumentError

EVERYTHING = [
    "flip", "crop:2", "translate:2", "rotate:10", "scale:0.1", "stretch:0.1", "shear:5", "cubic,translate:2",
    "elastic:8:3", "width:6:10", "brightness:0.2", "contrast:0.2", "saturation:0.2", "hue:20", "pca", "cutout:4",
]  # fmt: skip


def split(count: int = 33, channels: int = 3) -> Labelled:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, 12, 17), dtype=torch.uint8, generator=generator)
    return Labelled(images, torch.zeros(count, dtype=torch.int64), ("a",))


def drawn(*names: int) -> torch.Generator:
    return seeding.generator(1, "augment", *names)


def test_the_list_above_is_complete() -> None:
    assert {part.split(":")[0] for text in EVERYTHING for part in text.split(",")} == set(KINDS)


@pytest.mark.parametrize("text", [*EVERYTHING, ",".join(EVERYTHING), "cutout:3,elastic:8:3,flip,brightness:0.1,crop:1"])
@pytest.mark.parametrize("count", [1, 16, 33])
def test_seeded_whole_and_without_side_effects(text: str, count: int) -> None:
    images = split(count).images
    before = images.clone()
    augmentation = parse_augmentation(text).fitted(split())
    result = augmentation(images, drawn(0, 1))
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(augmentation(images, drawn(0, 1)), result)
    if count == 33:
        assert not torch.equal(augmentation(images, drawn(0, 2)), result)
        assert not torch.equal(result, images)


@pytest.mark.parametrize("text", EVERYTHING)
def test_pictures_of_a_batch_are_drawn_one_by_one(text: str) -> None:
    one = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    one[0, :, 6:20, 5:18] = torch.tensor([220, 120, 60], dtype=torch.uint8).reshape(3, 1, 1)
    result = parse_augmentation(text).fitted(split())(one.repeat(64, 1, 1, 1), drawn(0))
    assert len({tuple(picture.flatten().tolist()) for picture in result}) > (1 if text in ("flip", "width:6:10") else 8)


def test_no_pictures() -> None:
    for text in EVERYTHING:
        empty = split().images[:0]
        assert parse_augmentation(text).fitted(split())(empty, drawn(0)).shape == (0, 3, 12, 17)


@pytest.mark.parametrize(("side", "channels"), [(4, 1), (5, 3), (40, 3)])
def test_cutout_fills_a_square_with_the_mean(side: int, channels: int) -> None:
    train = split(33, channels)
    result = parse_augmentation(f"cutout:{side}").fitted(train)(train.images, drawn(0))
    mean = train.images.float().mean(dim=(0, 2, 3)).round().to(torch.uint8)
    sizes = set()
    for before, after in zip(train.images, result, strict=True):
        filled = (after == mean.reshape(-1, 1, 1)).all(0)
        changed = (after != before).any(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        assert filled[changed].all()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert max(height, width) <= side
        sizes.add((height, width))
    if side == 4:
        assert (4, 4) in sizes  # whole squares
        assert any(min(size) < 4 for size in sizes)  # and some that hang over the edge
    unfitted = parse_augmentation("cutout:40")(train.images, drawn(0))
    assert (unfitted == 0).any()


def test_mean_of_an_uneven_number_of_pictures() -> None:
    images = torch.zeros(513, 1, 2, 2, dtype=torch.uint8)
    images[512] = 255
    train = Labelled(images, torch.zeros(513, dtype=torch.int64), ("a",))
    filled = parse_augmentation("cutout:99").fitted(train)(images[:8], drawn(0))
    assert set(filled.flatten().tolist()) == {0}  # 255/513 rounds to 0: the last picture must not weigh 512 times


def test_bad_pictures() -> None:
    with pytest.raises(ArgumentError, match=r"images: got 'float32 \(2, 1, 4, 4\)', wanted a uint8 tensor"):
        parse_augmentation("flip")(torch.zeros(2, 1, 4, 4), drawn(0))
    with pytest.raises(ArgumentError, match="It needs colour"):
        parse_augmentation("hue:10").fitted(split(3, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("text", EVERYTHING)
def test_gpu_does_as_the_cpu(text: str) -> None:
    images = split().images
    augmentation = parse_augmentation(text).fitted(split())
    there = augmentation(images.cuda(), drawn(0))
    assert there.device.type == "cuda"
    if not text.startswith("elastic"):  # whose noise is drawn on the device
        assert (there.cpu().int() - augmentation(images, drawn(0)).int()).abs().max() <= 1
    assert torch.equal(augmentation(images.cuda(), drawn(0)), there)
