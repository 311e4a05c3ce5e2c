"""Every filter against scipy.ndimage and OpenCV, every edge, every depth, every tile; what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy
import pytest
import torch
from PIL import Image
from scipy import ndimage

import convscope
from convscope import filter_picture, kernels
from convscope.errors import ArgumentError, DataError, UnknownNameError
from convscope.tasks.filtering import tiles
from convscope.tasks.filtering.median import median

CHANCE = numpy.random.default_rng(3)
GREY = CHANCE.integers(0, 256, (37, 53), dtype=numpy.uint8)
FLOATS = CHANCE.normal(size=(37, 53))
# ours → scipy's, OpenCV's
EDGES: dict[str, tuple[Any, Any]] = {
    "reflect": ("mirror", cv2.BORDER_REFLECT_101), "symmetric": ("reflect", cv2.BORDER_REFLECT),
    "replicate": ("nearest", cv2.BORDER_REPLICATE), "circular": ("wrap", None),
    "constant": ("constant", cv2.BORDER_CONSTANT),
}  # fmt: skip
LINEAR = [name for name in kernels.NAMES if kernels.FILTERS[name].build is not None]


def as_picture(y: numpy.ndarray, most: int = 255) -> numpy.ndarray:
    return numpy.asarray(numpy.clip(numpy.rint(y), 0, most))


@pytest.mark.parametrize("padding", EDGES)
@pytest.mark.parametrize("name", LINEAR)
def test_a_kernel_is_scipys_correlation_and_opencvs(name: str, padding: str) -> None:
    options: dict[str, Any] = {"size": 7} if "size" in kernels.FILTERS[name].takes else {}
    theirs, border = EDGES[padding]
    ours = filter_picture(FLOATS, name, padding=padding, fill=0.0, **options)
    kernel = kernels.kernel(name, **options)
    scipys = ndimage.correlate(FLOATS, kernel, mode=theirs, cval=0.0)
    numpy.testing.assert_allclose(ours, scipys, atol=1e-13 * numpy.abs(kernel).sum() * 10)
    turned: Any = filter_picture(FLOATS, name, mode="convolution", padding=padding, **options)
    numpy.testing.assert_allclose(turned, ndimage.convolve(FLOATS, kernel, mode=theirs), atol=1e-12 * 10)
    if border is not None:
        opencvs = cv2.filter2D(FLOATS, -1, kernel, borderType=border)
        numpy.testing.assert_allclose(ours, opencvs, atol=1e-12 * 10)
    # 8 bits: the same, rounded; where the sum lies half-way, either neighbour
    exact = ndimage.correlate(GREY.astype(float), kernel, mode=theirs, cval=0.0)
    offset = 128 if kernels.FILTERS[name].signed else 0
    found = filter_picture(GREY, name, padding=padding, **options).astype(float)
    wanted = as_picture(exact + offset)
    assert numpy.abs(found - numpy.clip(exact + offset, 0, 255)).max() <= 0.5 + 1e-3
    assert (found != wanted).mean() < 0.02


def test_named_kernels_are_those_of_scipy_and_opencv() -> None:
    """The values themselves, not by way of our own kernel."""
    same: dict[str, Any] = {"atol": 1e-12}
    numpy.testing.assert_allclose(
        filter_picture(FLOATS, "box", size=5), ndimage.uniform_filter(FLOATS, 5, mode="mirror"), **same
    )
    for size, sigma in ((5, 1.2), (9, 3.0)):
        ours = filter_picture(FLOATS, "gaussian", size=size, sigma=sigma)
        numpy.testing.assert_allclose(
            ours, ndimage.gaussian_filter(FLOATS, sigma, radius=size // 2, mode="mirror"), **same
        )
        numpy.testing.assert_allclose(ours, cv2.GaussianBlur(FLOATS, (size, size), sigma), **same)
    numpy.testing.assert_allclose(
        filter_picture(FLOATS, "gaussian", size=11), cv2.GaussianBlur(FLOATS, (11, 11), 0), **same
    )
    numpy.testing.assert_allclose(filter_picture(FLOATS, "laplacian"), ndimage.laplace(FLOATS, mode="mirror"), **same)
    numpy.testing.assert_allclose(filter_picture(FLOATS, "laplacian"), cv2.Laplacian(FLOATS, -1, ksize=1), **same)
    for axis, way in ((1, "x"), (0, "y")):
        for scipys, name in ((ndimage.sobel, "sobel"), (ndimage.prewitt, "prewitt")):
            numpy.testing.assert_allclose(
                filter_picture(FLOATS, f"{name}_{way}"), scipys(FLOATS, axis, mode="mirror"), **same
            )
        opencvs = cv2.Sobel(FLOATS, -1, axis, 1 - axis)
        numpy.testing.assert_allclose(filter_picture(FLOATS, f"sobel_{way}"), opencvs, **same)
    # scipy's Laplacian of the Gaussian, less the mean of its kernel, so that flat parts give 0
    sigma, radius = 1.5, 6
    point = numpy.zeros((13, 13))
    point[6, 6] = 1
    mean = ndimage.gaussian_laplace(point, sigma, radius=radius, mode="constant").mean()
    wanted = ndimage.gaussian_laplace(FLOATS, sigma, radius=radius, mode="mirror")
    wanted -= mean * 169 * ndimage.uniform_filter(FLOATS, 13, mode="mirror")
    numpy.testing.assert_allclose(filter_picture(FLOATS, "log", size=13, sigma=sigma), wanted, **same)
    blurred = cv2.GaussianBlur(FLOATS, (5, 5), 1.0)
    ours = filter_picture(FLOATS, "unsharp", size=5, sigma=1.0, amount=0.7)
    numpy.testing.assert_allclose(ours, cv2.addWeighted(FLOATS, 1.7, blurred, -0.7, 0), **same)


@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_lengths_and_directions(name: str) -> None:
    scipys = getattr(ndimage, name)
    x, y = (scipys(FLOATS, axis, mode="mirror") for axis in (1, 0))
    length, direction = filter_picture(FLOATS, name), filter_picture(FLOATS, f"{name}_direction")
    numpy.testing.assert_allclose(length, numpy.sqrt(x**2 + y**2), atol=1e-12)
    numpy.testing.assert_allclose(length * numpy.cos(direction), x, atol=1e-12)
    numpy.testing.assert_allclose(length * numpy.sin(direction), y, atol=1e-12)
    ramp = numpy.tile(numpy.arange(0, 60, 2, dtype=numpy.uint8), (20, 1))  # brighter to the right: direction 0
    inner = filter_picture(ramp, f"{name}_direction")[1:-1, 1:-1]
    assert set(numpy.unique(inner)) <= {127, 128}, "the middle of −π … π"
    wanted = 2 * 2 * (4 if name == "sobel" else 3)
    assert (filter_picture(ramp, name)[1:-1, 1:-1] == wanted).all()


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 13])
def test_the_median_is_scipys_and_opencvs(size: int) -> None:
    for picture in (GREY, GREY.astype(numpy.uint16) * 257, FLOATS):
        found = filter_picture(picture, "median", size=size)
        assert found.dtype == picture.dtype
        assert numpy.array_equal(found, ndimage.median_filter(picture, size, mode="mirror"))
    replicated = filter_picture(GREY, "median", size=size, padding="replicate")
    assert numpy.array_equal(replicated, cv2.medianBlur(GREY, size))


def test_the_medians_merges_sort_every_pattern_of_zeros_and_ones() -> None:
    """What sorts all zeros and ones sorts everything (Knuth's 0-1 principle): all 512 of 3×3."""
    patterns = ((numpy.arange(512)[:, None] >> numpy.arange(9)) & 1).astype(numpy.uint8)
    for pattern in patterns:
        assert median(pattern.reshape(3, 3), 3) == [[pattern.sum() > 4]]


@pytest.mark.parametrize("size", [5, 9, 15])
@pytest.mark.parametrize("angle", [0, 90, 45, 135, 30.0])
def test_motion_is_a_line_through_the_middle(angle: float, size: int) -> None:
    kernel = kernels.kernel("motion", size=size, angle=angle)
    assert kernel.shape == (size, size)
    assert kernel.sum() == pytest.approx(1)
    numpy.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    y, x = numpy.mgrid[: size // 2 + 1 + size // 2, :size] - size // 2
    turn = numpy.radians(angle)
    across = x * numpy.sin(turn) + y * numpy.cos(turn)  # the distance from the line
    assert numpy.abs(across[kernel > 0]).max() < 1.4
    assert numpy.abs(x * numpy.cos(turn) - y * numpy.sin(turn))[kernel > 0].max() >= size // 2 - 1
    if angle == 0:
        assert numpy.array_equal(kernel[size // 2], numpy.full(size, 1 / size))


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 1), (37, 53, 2), (37, 53, 3), (37, 53, 4)])
@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16, numpy.float32, numpy.float64])
def test_depth_and_channels_are_kept(shape: tuple[int, ...], dtype: type) -> None:
    picture = (CHANCE.random(shape) * 200).astype(dtype) * dtype(257 if dtype == numpy.uint16 else 1)
    found = filter_picture(picture, "gaussian", size=5, sigma=1.2)
    assert (found.shape, found.dtype) == (picture.shape, picture.dtype)
    whole = picture if picture.ndim == 3 else picture[:, :, None]
    for channel in range(whole.shape[2]):
        wanted = ndimage.gaussian_filter(whole[:, :, channel].astype(float), 1.2, radius=2, mode="mirror")
        ours = found if found.ndim == 2 else found[:, :, channel]
        if whole.shape[2] in (2, 4) and channel == whole.shape[2] - 1:
            assert numpy.array_equal(ours, whole[:, :, channel]), "transparency is kept"
            wanted = ndimage.gaussian_filter(whole[:, :, channel].astype(float), 1.2, radius=2, mode="mirror")
            ours = filter_picture(picture, "gaussian", size=5, sigma=1.2, alpha="filter")[:, :, channel]
        tolerance = 0.5 + 1e-3 if dtype in (numpy.uint8, numpy.uint16) else 1e-4
        assert numpy.abs(ours.astype(float) - wanted).max() <= tolerance


def test_tensors_come_back_as_tensors() -> None:
    colour = torch.from_numpy(CHANCE.integers(0, 256, (3, 20, 30), dtype=numpy.uint8))
    found = filter_picture(colour, "sobel")
    assert isinstance(found, torch.Tensor)
    assert (found.shape, found.dtype) == (colour.shape, torch.uint8)
    assert torch.equal(found[1], filter_picture(colour[1], "sobel"))


@pytest.mark.parametrize("name", ["box", "gaussian", "log", "sobel", "emboss", "median"])
@pytest.mark.parametrize("padding", tiles.PADDINGS)
def test_strips_and_threads_change_no_bit(name: str, padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = CHANCE.integers(0, 256, (101, 41), dtype=numpy.uint8)
    options: dict[str, Any] = {"size": 7} if "size" in kernels.FILTERS[name].takes else {}
    whole = [filter_picture(each, name, padding=padding, fill=9.0, **options) for each in (picture, picture / 3.0)]
    monkeypatch.setattr(tiles, "_STRIP", 1)  # strips of 8 rows
    for threads in (1, 3):
        cut = [
            filter_picture(each, name, padding=padding, fill=9.0, threads=threads, **options)
            for each in (picture, picture / 3.0)
        ]
        assert all(numpy.array_equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_memory_mapped_pictures(tmp_path: Path) -> None:
    source = numpy.lib.format.open_memmap(tmp_path / "in.npy", "w+", numpy.uint8, (300, 200, 3))
    source[...] = CHANCE.integers(0, 256, source.shape, dtype=numpy.uint8)
    out = numpy.lib.format.open_memmap(tmp_path / "out.npy", "w+", numpy.uint8, (300, 200, 3))
    filter_picture(source, "gaussian", sigma=2.0, out=out)
    out.flush()
    assert numpy.array_equal(
        numpy.load(tmp_path / "out.npy"), filter_picture(numpy.array(source), "gaussian", sigma=2.0)
    )


def test_scale_and_offset() -> None:
    plain = filter_picture(FLOATS, "sobel_x")
    numpy.testing.assert_allclose(filter_picture(FLOATS, "sobel_x", scale=0.25, offset=3.0), plain / 4 + 3)
    exact = ndimage.sobel(GREY.astype(float), 1, mode="mirror")
    found = filter_picture(GREY, "sobel_x", scale=0.125)
    assert numpy.array_equal(found, as_picture(exact / 8 + 128))
    assert numpy.array_equal(filter_picture(GREY, "sobel_x", offset=0), as_picture(exact))


def test_what_cannot_be_is_refused() -> None:
    for bad, message in (
        ({"kernel": "gausian"}, "kernel: got 'gausian', .*Did you mean 'gaussian'"),
        ({"kernel": "box", "padding": "mirrored"}, "padding: got 'mirrored', wanted one of circular"),
        ({"kernel": "box", "mode": "convolve"}, "mode: got 'convolve'.*Did you mean 'convolution'"),
        ({"kernel": "box", "alpha": "kept"}, "alpha: got 'kept'.*Did you mean 'keep'"),
        ({"kernel": "sobel_x", "size": 5}, "option of sobel_x: got 'size'"),
        ({"kernel": "sobel", "sigma": 5.0}, "option of sobel: got 'sigma'"),
        ({"kernel": "median", "sigma": 5.0}, "option of median: got 'sigma', wanted one of size"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            filter_picture(GREY, **bad)
    nan, ones = float("nan"), numpy.ones((3, 3))
    for picture, kernel, options, message in (
        (GREY, "box", {"size": 4}, "size: got 4, wanted an odd integer ≥ 1: a kernel of even size has no middle"),
        (GREY, "median", {"size": 2}, "size: got 2, wanted an odd"),
        (GREY, "gaussian", {"sigma": 0.0}, "sigma: got 0.0"),
        (GREY, "gaussian", {"sigma": nan}, "sigma: got nan"),
        (GREY, "motion", {"angle": nan}, "angle: got nan"),
        (GREY, "unsharp", {"amount": nan}, "amount: got nan"),
        (GREY, "box", {"size": 39}, "kernel: got '39×39', wanted a kernel no larger than the picture, which is 37×53"),
        (GREY, "box", {"normalise": True}, "normalise: got True, wanted False for 'box'"),
        (GREY, ones[:2], {}, "kernel: got '2×3', wanted odd sides"),
        (GREY, ones[0], {}, r"kernel: got 'shape \(3,\)'"),
        (GREY, [[1, 2, 3], [1]], {}, "kernel: got .*wanted rows of numbers, all equally long"),
        (GREY, [[0, nan, 0]], {}, "kernel: got 'nan or infinity among its values'"),
        (GREY, [[-1, 0, 1]], {"normalise": True}, "normalise: got True, wanted a kernel whose values do not"),
        (GREY, ones, {"size": 3}, "size: got 3, wanted nothing: a kernel of one's own has its size"),
        (GREY, "box", {"scale": nan}, "scale: got nan, wanted a finite number"),
        (GREY.astype(int), "box", {}, "picture: got 'int64', wanted uint8"),
        (numpy.zeros((4, 4, 5), numpy.uint8), "box", {}, "picture: got 'shape"),
        (numpy.full((4, 4), nan), "box", {}, "picture: got 'nan or infinity among its values'"),
        (b"no", "box", {}, "picture: got 'bytes', wanted an array, a tensor or a path"),
        (GREY, "box", {"out": GREY}, "out: got 'the picture itself'"),
        (GREY, "box", {"out": FLOATS}, "out: got 'float64 of shape"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            filter_picture(picture, kernel, **options)
    with pytest.raises(ArgumentError, match="kernel: got 'median', wanted a filter with one kernel"):
        kernels.kernel("median")


def test_own_kernels_are_divided_by_their_sum_when_asked() -> None:
    own = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    found = filter_picture(FLOATS, own, normalise=True)
    numpy.testing.assert_allclose(found, ndimage.correlate(FLOATS, numpy.array(own) / 16, mode="mirror"), atol=1e-13)


def test_kernels_from_text_and_files(tmp_path: Path) -> None:
    wanted = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert kernels.parse("0 -1 0; -1,5,-1; 0 -1 0").tolist() == wanted
    (tmp_path / "k.txt").write_text("0 -1 0\n-1 5 -1\n0 -1 0\n")
    numpy.save(tmp_path / "k.npy", numpy.array(wanted))
    for name in ("k.txt", "k.npy"):
        assert kernels.read(tmp_path / name).tolist() == wanted
    with pytest.raises(ArgumentError, match="kernel: got '1 2 x', wanted a name, a file, or rows of numbers"):
        kernels.parse("1 2 x")
    with pytest.raises(DataError, match="missing.txt: no kernel can be read"):
        kernels.read(tmp_path / "missing.txt")
    (tmp_path / "even.txt").write_text("1 1\n1 1\n")
    with pytest.raises(DataError, match="even.txt: kernel: got '2×2'"):
        kernels.read(tmp_path / "even.txt")
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="bad.npy: no kernel can be read"):
        kernels.read(tmp_path / "bad.npy")


def test_files(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    assert numpy.array_equal(filter_picture(tmp_path / "grey.png", "sobel"), filter_picture(GREY, "sobel"))
    assert convscope.kernels.NAMES == kernels.NAMES
