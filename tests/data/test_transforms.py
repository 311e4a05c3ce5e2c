from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image

from convscope.data import prepare
from convscope.data.transforms import as_images, convert_channels, fit_size
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))


def test_grey_is_pillows_grey() -> None:
    colour = pictures(3, 3, 17, 5)
    ours = convert_channels(colour, 1)
    for place in range(3):
        theirs = Image.fromarray(colour[place].permute(1, 2, 0).numpy()).convert("L")
        assert numpy.array_equal(ours[place, 0].numpy(), numpy.asarray(theirs))


def test_grey_pixels_survive_the_way_to_colour_and_back() -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    colour = convert_channels(grey, 3)
    assert colour.shape == (1, 3, 16, 16)
    assert torch.equal(convert_channels(colour, 1), grey)


def test_transparency_is_composited_on_white() -> None:
    picture = torch.tensor([[10], [20], [30], [0]], dtype=torch.uint8).reshape(1, 4, 1, 1)
    assert convert_channels(picture, 3).flatten().tolist() == [255, 255, 255]
    picture[0, 3] = 255
    assert convert_channels(picture, 3).flatten().tolist() == [10, 20, 30]
    picture[0, 3] = 51  # a fifth: 10/5 + 255·4/5 = 206
    assert convert_channels(picture, 3).flatten().tolist() == [206, 208, 210]
    with_alpha = torch.tensor([100, 0], dtype=torch.uint8).reshape(1, 2, 1, 1)
    assert convert_channels(with_alpha, 1).flatten().tolist() == [255]


def test_unknown_channels() -> None:
    with pytest.raises(ArgumentError, match="channels: got 1, wanted 1 or 3, or the 5 channels"):
        convert_channels(pictures(1, 5, 4, 4), 1)


def test_pad_centres_with_the_odd_rest_right_and_below() -> None:
    picture = torch.full((2, 1, 3, 2), 9, dtype=torch.uint8)
    padded = fit_size(picture, (6, 5), "pad")
    wanted = torch.zeros(6, 5, dtype=torch.uint8)
    wanted[1:4, 1:3] = 9
    assert torch.equal(padded[1, 0], wanted)


def test_pad_shrinks_only_what_is_too_large() -> None:
    padded = fit_size(torch.full((1, 1, 40, 20), 200, dtype=torch.uint8), (10, 10), "pad")
    inside = (padded[0, 0] > 0).nonzero()
    assert inside.min(0).values.tolist() == [0, 2]
    assert inside.max(0).values.tolist() == [9, 6]


def test_crop_cuts_the_middle() -> None:
    picture = torch.arange(8, dtype=torch.uint8).repeat(4, 1).reshape(1, 1, 4, 8) * 10
    cut = fit_size(picture, (4, 4), "crop")
    assert cut[0, 0, 0].tolist() == [20, 30, 40, 50]
    assert fit_size(pictures(2, 3, 30, 50), (9, 17), "crop").shape == (2, 3, 9, 17)


def test_resize_is_pillows_bilinear() -> None:
    picture = pictures(1, 3, 33, 21)
    ours = fit_size(picture, (16, 30), "resize")[0].permute(1, 2, 0).numpy().astype(int)
    source = Image.fromarray(picture[0].permute(1, 2, 0).numpy())
    theirs = numpy.asarray(source.resize((30, 16), Image.Resampling.BILINEAR)).astype(int)
    assert numpy.abs(ours - theirs).max() <= 1  # the two round intermediate rows differently
    assert numpy.abs(ours - numpy.roll(theirs, 1, axis=1)).max() > 10  # and would not agree one pixel off


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 32), (17, 3)])
def test_every_fit_reaches_every_size(fit: str, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(3, size, (0.5,) * 3, (0.2,) * 3, fit)  # type: ignore[arg-type]
    ready = prepare(pictures(2, 1, 13, 7), preprocessing)
    assert ready.shape == (2, 3, *size)
    assert ready.dtype == torch.uint8
    assert prepare(ready, preprocessing) is ready


def test_no_pictures_at_all() -> None:
    preprocessing = Preprocessing(1, (28, 28), (0.5,), (0.2,))
    assert prepare(torch.zeros((0, 1, 8, 8), dtype=torch.uint8), preprocessing).shape == (0, 1, 28, 28)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="fit: got 'stretch', wanted one of resize, pad, crop"):
        fit_size(pictures(1, 1, 4, 4), (5, 5), "stretch")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"size: got .*at least 1"):
        fit_size(pictures(1, 1, 4, 4), (0, 5))
    with pytest.raises(ArgumentError, match="images: got 'float32"):
        prepare(torch.zeros(1, 1, 4, 4), Preprocessing(1, (4, 4), (0.5,), (0.2,)))


def test_as_images_tells_channels_first_from_last() -> None:
    assert as_images(pictures(2, 28, 30)).shape == (2, 1, 28, 30)
    assert as_images(pictures(2, 28, 30, 3)).shape == (2, 3, 28, 30)
    assert as_images(pictures(2, 3, 28, 30)).shape == (2, 3, 28, 30)
    assert as_images(pictures(2, 3, 28, 3)).shape == (2, 3, 28, 3)  # channels first where both could be
    big_endian = numpy.zeros((1, 4, 4), dtype=">u2")
    with pytest.raises(ArgumentError, match="images: got 'uint16"):
        as_images(big_endian)
    with pytest.raises(ArgumentError, match="images: got 'list'"):
        as_images([[1, 2]])  # type: ignore[arg-type]
