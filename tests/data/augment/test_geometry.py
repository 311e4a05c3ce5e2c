from __future__ import annotations

import numpy
import pytest
import torch
from scipy import ndimage

from convscope import seeding
from convscope.data.augment import geometry, normalise_width, parse_augmentation
from convscope.data.augment.moves import Move, Warped
from convscope.data.augment.operations import parse_operation


def pictures(count: int, channels: int = 1, height: int = 28, width: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count * channels)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def smooth(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Random pictures without edges, so that a shift by a hundredth of a pixel changes little."""
    rough = torch.rand((count, channels, 6, 5), generator=torch.Generator().manual_seed(1))
    return (torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def drawn(seed: int = 1) -> torch.Generator:
    return seeding.generator(seed, "augment", 2, 3)


def test_flip() -> None:
    images = pictures(17, 3)
    assert torch.equal(parse_augmentation("flip:1")(images, drawn()), images.flip(3))
    assert torch.equal(parse_augmentation("flip:0")(images, drawn()), images)
    many = pictures(2000, 1, 2, 3)
    flipped = (parse_augmentation("flip:0.3")(many, drawn()) != many).flatten(1).any(1)
    assert 0.26 < flipped.float().mean() < 0.34


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (15, 3), (33, 17)])
def test_crop_is_a_window_of_the_padded_picture(count: int, channels: int) -> None:
    images = pictures(count, channels, 9, 7)
    padded = numpy.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    result = parse_augmentation("crop:2")(images, drawn()).numpy()
    offsets = set()
    for place in range(count):
        windows = {(y, x): padded[place, :, y : y + 9, x : x + 7] for y in range(5) for x in range(5)}
        found = [offset for offset, window in windows.items() if numpy.array_equal(window, result[place])]
        assert len(found) == 1
        offsets.update(found)
    assert count < 30 or len(offsets) > 12  # of 25


@pytest.mark.parametrize("most", [1, 4, 12])
def test_both_ways_of_shifting_are_one(most: int) -> None:
    """A loop on the CPU, indexing elsewhere; shifts may be larger than the picture."""
    images = pictures(33, 3, 9, 7)
    shifts = torch.randint(-most, most + 1, (33, 2), generator=drawn())
    looped = geometry.shift_looping(images, shifts)
    assert torch.equal(looped, geometry.shift_indexing(images, shifts, most))
    up, left = shifts[5].tolist()
    padded = torch.nn.functional.pad(images[5], (most, most, most, most))
    assert torch.equal(looped[5], padded[:, most + up : most + up + 9, most + left : most + left + 7])


def naive_warp(images: numpy.ndarray, places: numpy.ndarray) -> numpy.ndarray:
    """scipy's bilinear look-up in float64; ``places`` is (n, 2 = x and y, h, w), in pixels from the centre."""
    _, _, height, width = images.shape
    result = numpy.zeros(images.shape)
    for number, picture in enumerate(images):
        x = places[number, 0] + (width - 1) / 2
        y = places[number, 1] + (height - 1) / 2
        for channel, plane in enumerate(picture):
            result[number, channel] = ndimage.map_coordinates(
                numpy.pad(plane.astype(numpy.float64), 40), [y + 40, x + 40], order=1, mode="constant"
            )
    return result


def centred(height: int, width: int) -> numpy.ndarray:
    """(3, h, w): x, y, 1."""
    y, x = numpy.mgrid[:height, :width].astype(numpy.float64)
    return numpy.stack([x - (width - 1) / 2, y - (height - 1) / 2, numpy.ones_like(x)])


@pytest.mark.parametrize(("count", "channels", "height", "width"), [(1, 1, 28, 28), (16, 3, 17, 23), (33, 1, 20, 13)])
def test_affine_operations_are_composed_and_sampled_once(count: int, channels: int, height: int, width: int) -> None:
    images = smooth(count, channels, height, width)
    text = "translate:3,rotate:40,scale:0.3,stretch:0.2,shear:15"
    ours = parse_augmentation(text)(images, drawn()).numpy().astype(int)

    uniform = torch.rand((10, count), generator=drawn()).numpy().astype(numpy.float64) * 2 - 1
    wanted = numpy.tile(centred(height, width), (count, 1, 1, 1))
    for place in reversed(range(5)):  # the last operation is undone first
        name = text.split(",")[place].split(":")[0]
        one, two = uniform[2 * place], uniform[2 * place + 1]
        half = numpy.zeros(count)
        if name == "translate":
            matrix = [[1 + half, half, 3 * one], [half, 1 + half, 3 * two]]
        elif name == "rotate":
            angle = numpy.deg2rad(40 * one)
            matrix = [[numpy.cos(angle), numpy.sin(angle), half], [-numpy.sin(angle), numpy.cos(angle), half]]
        elif name == "scale":
            matrix = [[1 / (1 + 0.3 * one), half, half], [half, 1 / (1 + 0.3 * one), half]]
        elif name == "stretch":
            matrix = [[1 / (1 + 0.2 * one), half, half], [half, 1 / (1 + 0.2 * two), half]]
        else:
            matrix = [[1 + half, numpy.tan(numpy.deg2rad(15 * one)), half], [half, 1 + half, half]]
        wanted[:, :2] = numpy.einsum("ijn,njhw->nihw", numpy.array(matrix), wanted)
    theirs = naive_warp(images.numpy(), wanted[:, :2])
    assert numpy.abs(ours - theirs).max() <= 0.51  # rounding, and float32 places
    shifted = naive_warp(images.numpy(), wanted[:, :2] + 0.2)
    assert numpy.abs(ours - shifted).max() > 1.5  # a fifth of a pixel would be seen


def cubic_kernel(distance: numpy.ndarray, a: float = -0.75) -> numpy.ndarray:
    """Keys, Cubic convolution interpolation for digital image processing (1981), equation (4) with any a."""
    d = numpy.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return numpy.where(d <= 1, near, numpy.where(d < 2, far, 0))


def test_cubic_is_keys_convolution() -> None:
    images = pictures(7, 2, 11, 14)
    ours = parse_augmentation("translate:2,cubic")(images, drawn()).numpy().astype(int)
    uniform = torch.rand((2, 7), generator=drawn()).numpy().astype(numpy.float64) * 2 - 1
    rows, columns, beyond = numpy.arange(11), numpy.arange(14), []
    for number, picture in enumerate(images.numpy().astype(numpy.float64)):
        over_x = cubic_kernel(columns[:, None] + 2 * uniform[0, number] - columns[None, :])
        over_y = cubic_kernel(rows[:, None] + 2 * uniform[1, number] - rows[None, :])
        wanted = numpy.einsum("ys,csk,xk->cyx", over_y, picture, over_x)
        beyond += [(wanted < -5).any() and (wanted > 260).any()]
        assert numpy.abs(ours[number] - wanted.clip(0, 255)).max() <= 0.51
    assert any(beyond)  # so that cutting to 0 … 255 is seen
    bilinear = parse_augmentation("translate:2")(images, drawn()).numpy().astype(int)
    assert numpy.abs(ours - bilinear).max() > 20


def test_cubic_goes_where_bilinear_goes() -> None:
    images = smooth(5, 1, 20, 20)
    one: list[Move] = []
    other: list[Move] = []
    text = "rotate:20,elastic:20:4"
    cubic = parse_augmentation(f"{text},cubic")(images, drawn(), one).to(torch.float)
    bilinear = parse_augmentation(text)(images, drawn(), other).to(torch.float)
    assert isinstance(one[0], Warped)
    assert isinstance(other[0], Warped)
    assert torch.equal(one[0].grid, other[0].grid)
    assert 0 < (cubic - bilinear).abs().mean() < (cubic - images).abs().mean() / 4
    blank = torch.full((2, 1, 12, 12), 255, dtype=torch.uint8)
    assert (parse_augmentation("rotate:5,cubic")(blank, drawn())[:, :, 4:8, 4:8] == 255).all()


def test_a_quarter_turn() -> None:
    images = pictures(2, 3, 9, 9)
    matrices = geometry.inverse_map(parse_operation("rotate:90"), numpy.ones((2, 2), dtype=numpy.float32), images)
    assert torch.equal(geometry.warp(images, matrices), images.rot90(-1, (2, 3)))


def test_no_operation_changes_nothing() -> None:
    images = pictures(5, 3)
    for text in ("translate:0", "rotate:0,scale:0,shear:0", "elastic:0:4", "cubic", "elastic:0:4,cubic"):
        assert torch.equal(parse_augmentation(text)(images, drawn()), images)


def test_scaling_up_enlarges() -> None:
    images = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    images[0, 0, 8:13, 8:13] = 255
    operation = parse_operation("scale:0.5")
    larger = geometry.warp(images, geometry.inverse_map(operation, numpy.ones((2, 1), dtype=numpy.float32), images))
    assert int((larger > 127).sum()) == 49  # half its height is reached 2.5 · 1.5 from the middle: 3 + 1 + 3 pixels


def fields(alpha: float, sigma: float, count: int, size: int) -> numpy.ndarray:
    """(n, size) horizontal displacements along the middle row, read off a picture whose grey is 8 times x."""
    ramp = (torch.arange(32) * 8).to(torch.uint8).expand(count, 1, size, 32)[:, :, :, :size].contiguous()
    bent = parse_augmentation(f"elastic:{alpha}:{sigma}")(ramp, drawn())
    displacements: numpy.ndarray = (bent[:, 0, size // 2].numpy().astype(float) - ramp[0, 0, 0].numpy()) / 8
    return displacements


def simard(alpha: float, sigma: float, count: int, size: int) -> numpy.ndarray:
    """As the paper has it: α times uniform noise in −1 … 1, smoothed by a Gaussian; noise goes on beyond the edges."""
    rng = numpy.random.default_rng(0)
    margin = int(4 * sigma) + 1
    noise = rng.uniform(-1, 1, (count, 2 * margin + 1, size + 2 * margin))
    smoothed = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="constant") * alpha
    row: numpy.ndarray = smoothed[:, margin, margin:-margin]
    return row


@pytest.mark.parametrize(("alpha", "sigma"), [(16.0, 3.0), (34.0, 4.0)])
def test_elastic_displacements_vary_as_the_papers(alpha: float, sigma: float) -> None:
    count, size = 6000, 25
    ours, paper = fields(alpha, sigma, count, size)[:, 8:17], simard(alpha, sigma, count, size)[:, 8:17]
    covariance = ours.T @ ours / count
    wanted = paper.T @ paper / count
    # 6000 draws: a standard error of 1.8 % of the variance, on both sides; grey levels add 0.0013
    assert numpy.abs(covariance - wanted).max() < 0.1 * wanted.max()
    assert numpy.abs(1.21 * covariance - wanted).max() > 0.1 * wanted.max()  # 10 % more strength would be seen
    assert numpy.abs(ours.mean(axis=0)).max() < 5 * ours.std() / count**0.5


def test_elastic_terms_carry_the_whole_covariance() -> None:
    terms = geometry.smooth_terms(28, 4.0)
    impulse = numpy.zeros(201)
    impulse[100] = 1
    kernel = ndimage.gaussian_filter1d(impulse, 4.0)
    covariance = numpy.correlate(kernel, kernel, mode="full")
    distance = numpy.abs(numpy.arange(28)[:, None] - numpy.arange(28)[None])
    wanted = covariance[200 + distance]
    assert numpy.abs(terms @ terms.T - wanted).max() < 0.01 * wanted.max()
    assert numpy.trace(terms @ terms.T) > 0.999 * numpy.trace(wanted)
    assert terms.shape[1] < 10


def test_elastic_and_affine_together() -> None:
    """The places are A(x, y) + d(x, y): with d known from its own grid, scipy finds the same pixels."""
    images = smooth(3, 1, 28, 28)
    terms = geometry.smooth_terms(28, 4.0)
    noise = torch.randn((terms.shape[1], 3, terms.shape[1], 2), generator=drawn())
    matrices = geometry.inverse_map(parse_operation("rotate:30"), numpy.full((2, 3), 0.7, dtype=numpy.float32), images)
    ours = geometry.warp(images, matrices, noise, 34.0, 4.0).numpy()
    bend = numpy.einsum("yp,pnqd,xq->ndyx", terms, noise.numpy(), terms) * 34 / 3**0.5
    places = numpy.einsum("nij,jhw->nihw", matrices[:, :2].astype(float), centred(28, 28)) + bend
    assert numpy.abs(ours - naive_warp(images.numpy(), places)).max() <= 0.52
    assert numpy.abs(bend).max() > 1


def figures(widths: list[int]) -> torch.Tensor:
    images = torch.zeros(len(widths), 1, 28, 28, dtype=torch.uint8)
    for place, width in enumerate(widths):
        images[place, 0, 4:24, 5 : 5 + width] = 200
    return images


def test_width_normalisation() -> None:
    images = figures([20, 10, 6, 1])
    for wanted in (10, 14, 20):
        result = normalise_width(images, wanted)
        for picture, source in zip(result, images, strict=True):
            columns = (picture[0] >= 100).any(0).nonzero().flatten()
            assert abs(len(columns) - wanted) <= 1
            before = source[0].any(0).nonzero().flatten()
            middle = float(before[0] + before[-1]) / 2
            middle = min(max(middle, (wanted - 1) / 2), 27 - (wanted - 1) / 2)  # inside the picture
            assert abs(float(columns[0] + columns[-1]) / 2 - middle) <= 1
            assert (picture[0] > 0).any(1).nonzero().flatten().tolist() == list(range(4, 24))


def test_width_normalisation_leaves_blank_and_fitting_pictures() -> None:
    images = torch.cat([torch.zeros(1, 1, 28, 28, dtype=torch.uint8), figures([12])])
    assert torch.equal(normalise_width(images, 12), images)
    noisy = figures([12]) + 3
    assert (normalise_width(noisy, 18, threshold=50) > 100).any(2).sum() == 18


def test_random_widths_are_those_of_the_paper() -> None:
    images = figures([14] * 300)
    result = parse_augmentation("width:10:20")(images, drawn())
    widths = (result >= 100).any(2).flatten(1).sum(1)
    assert set(widths.tolist()) <= set(range(9, 22))
    assert {10, 14, 18} <= set((widths // 2 * 2).tolist())
    fixed = parse_augmentation("width:16")(images, drawn())
    # sampled together with whatever else moves the pictures, so that a half is rounded either way
    assert (fixed.int() - normalise_width(images, 16).int()).abs().max() <= 1
