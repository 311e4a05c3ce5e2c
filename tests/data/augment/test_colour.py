from __future__ import annotations

import numpy
import pytest
import torch

from convscope import seeding
from convscope.data import Labelled
from convscope.data.augment import parse_augmentation
from convscope.data.augment.colour import principal_colours
from convscope.errors import ArgumentError

LUMA = numpy.array([0.299, 0.587, 0.114])


def pictures(count: int, channels: int = 3, low: int = 90, high: int = 160) -> torch.Tensor:
    """Mid greys, so that nothing is clipped."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(low, high, (count, channels, 7, 5), dtype=torch.uint8, generator=generator)


def drawn() -> torch.Generator:
    return seeding.generator(1, "augment", 2, 3)


def uniform(generator: torch.Generator, count: int) -> numpy.ndarray:
    values: numpy.ndarray = (torch.rand(count, generator=generator).double() * 2 - 1).numpy()
    return values.reshape(-1, 1, 1, 1)


def test_one_operation_after_the_other() -> None:
    """Each as its own formula, in float64, without clipping in between."""
    images = pictures(17)
    ours = parse_augmentation("brightness:0.2,contrast:0.3,saturation:0.5")(images, drawn()).numpy()
    generator, x = drawn(), images.numpy().astype(float)
    x = x * (1 + 0.2 * uniform(generator, 17))
    factor = 1 + 0.3 * uniform(generator, 17)
    mean = numpy.einsum("nchw,c->n", x, LUMA).reshape(-1, 1, 1, 1) / 35
    x = (x - mean) * factor + mean
    factor = 1 + 0.5 * uniform(generator, 17)
    x = x * factor + numpy.einsum("nchw,c->nhw", x, LUMA)[:, None] * (1 - factor)
    assert numpy.abs(ours - x.clip(0, 255)).max() <= 0.51
    assert numpy.abs(ours - x.clip(0, 255) * 1.02).max() > 1.5


def test_grey_pictures_take_brightness_and_contrast() -> None:
    images = pictures(5, 1)
    ours = parse_augmentation("contrast:0.5,brightness:0.1")(images, drawn()).numpy()
    generator, x = drawn(), images.numpy().astype(float)
    factor, mean = 1 + 0.5 * uniform(generator, 5), x.mean(axis=(1, 2, 3), keepdims=True)
    x = ((x - mean) * factor + mean) * (1 + 0.1 * uniform(generator, 5))
    assert numpy.abs(ours - x).max() <= 0.51


def test_what_is_too_bright_is_clipped() -> None:
    images = pictures(40, 3, 200, 256)
    result = parse_augmentation("brightness:1")(images, drawn())
    assert int(result.max()) == 255
    assert (result.float().mean((1, 2, 3)) < 128).any()


def test_hue_leaves_luma_and_grey_alone() -> None:
    images = pictures(9)
    turned = parse_augmentation("hue:180")(images, drawn())
    luma = numpy.einsum("nchw,c->nhw", images.numpy().astype(float), LUMA)
    assert numpy.abs(numpy.einsum("nchw,c->nhw", turned.numpy().astype(float), LUMA) - luma).max() < 0.8
    assert (turned.int() - images.int()).abs().max() > 20
    grey = pictures(9, 1).repeat(1, 3, 1, 1)
    assert (parse_augmentation("hue:180,saturation:1")(grey, drawn()).int() - grey.int()).abs().max() <= 1


def test_principal_colours_against_numpy() -> None:
    images = pictures(30) // torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(1, 3, 1, 1)
    pixels = images.permute(1, 0, 2, 3).reshape(3, -1).numpy() / 255
    values, vectors = numpy.linalg.eigh(numpy.cov(pixels, bias=True))
    ours = principal_colours(torch.split(images, 512))
    for column in range(3):
        wanted = vectors[:, column] * values[column] * 255
        assert min(numpy.abs(ours[:, column] - wanted).max(), numpy.abs(ours[:, column] + wanted).max()) < 1e-9


def test_pca_adds_one_colour_to_all_pixels_of_a_picture() -> None:
    rng = numpy.random.default_rng(0)
    strong = numpy.clip(
        128 + rng.normal(0, 60, (2000, 1, 4, 4)) * numpy.array([1, 0.5, 0.2]).reshape(1, 3, 1, 1), 0, 255
    )
    train = Labelled(torch.from_numpy(strong.astype(numpy.uint8)), torch.zeros(2000, dtype=torch.int64), ("a",))
    flat = torch.full((500, 3, 4, 4), 128, dtype=torch.uint8)
    moved = parse_augmentation("pca:1").fitted(train)(flat, drawn()).numpy().astype(float) - 128
    assert (moved == moved[:, :, :1, :1]).all()
    spread = moved[:, :, 0, 0].std(axis=0)
    pixels = train.images.permute(1, 0, 2, 3).reshape(3, -1).numpy() / 255
    values, vectors = numpy.linalg.eigh(numpy.cov(pixels))
    wanted = numpy.sqrt(((vectors * values * 255) ** 2).sum(axis=1))
    assert spread == pytest.approx(wanted, rel=0.15, abs=0.35)


def test_colour_needs_colour() -> None:
    for name in ("saturation:0.1", "hue:10", "pca"):
        with pytest.raises(ArgumentError, match=r"operations for pictures of 1 channel\(s\)\. It needs colour"):
            parse_augmentation(name)(pictures(2, 1), drawn())
    with pytest.raises(ArgumentError, match="no operation of colour on 4 channels"):
        parse_augmentation("brightness:0.1")(pictures(2, 4), drawn())
    with pytest.raises(ArgumentError, match=r"augment: got 'pca', wanted principal colours\. Call fitted"):
        parse_augmentation("pca")(pictures(2), drawn())
