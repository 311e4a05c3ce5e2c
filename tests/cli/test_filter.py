"""``convscope filter``: pictures of every kind come out with their depth and transparency."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.cli.conftest import Call

from convscope import filter_picture
from convscope.errors import ArgumentError, DataError
from convscope.tasks.filtering.files import read_picture, write_picture

CHANCE = numpy.random.default_rng(5)
PICTURES: dict[str, NDArray[Any]] = {
    "grey.png": CHANCE.integers(0, 256, (40, 30), dtype=numpy.uint8),
    "alpha.png": CHANCE.integers(0, 256, (40, 30, 4), dtype=numpy.uint8),
    "grey_alpha.png": CHANCE.integers(0, 256, (40, 30, 2), dtype=numpy.uint8),
    "colour.tif": CHANCE.integers(0, 256, (40, 30, 3), dtype=numpy.uint8),
    "deep.png": CHANCE.integers(0, 65536, (40, 30), dtype=numpy.uint16),
    "deep_colour.png": CHANCE.integers(0, 65536, (40, 30, 3), dtype=numpy.uint16),
    "deep_alpha.png": CHANCE.integers(0, 65536, (40, 30, 4), dtype=numpy.uint16),
    "deep_grey_alpha.png": CHANCE.integers(0, 65536, (40, 30, 2), dtype=numpy.uint16),
    "deep.tif": CHANCE.integers(0, 65536, (40, 30), dtype=numpy.uint16),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, pixels in PICTURES.items():
        write_picture(tmp_path / name, pixels)
    return tmp_path


@pytest.mark.parametrize("name", PICTURES)
def test_depth_and_transparency_are_kept(folder: Path, name: str, call: Call) -> None:
    out = folder / f"out{Path(name).suffix}"
    call("filter", folder / name, "--kernel", "gaussian", "--size", "5", "--sigma", "1.2", "-o", out)
    pixels = PICTURES[name]
    assert numpy.array_equal(read_picture(folder / name), pixels)
    found = read_picture(out)
    assert (found.dtype, found.shape) == (pixels.dtype, pixels.shape)
    assert numpy.array_equal(found, filter_picture(pixels, "gaussian", size=5, sigma=1.2))


def test_own_kernels(folder: Path, call: Call) -> None:
    (folder / "kernel.txt").write_text("1 2 1\n2 4 2\n1 2 1\n")
    printed = []
    for kernel in ("1 2 1; 2 4 2; 1 2 1", folder / "kernel.txt"):
        printed.append(call("filter", folder / "grey.png", "-k", kernel, "--normalise", "-o", folder / "o.png").output)
        wanted = filter_picture(PICTURES["grey.png"], [[1, 2, 1], [2, 4, 2], [1, 2, 1]], normalise=True)
        assert numpy.array_equal(read_picture(folder / "o.png"), wanted)
    assert "30×40, 8 bits a channel" in printed[0]


def test_convolution_and_scale_reach_the_filter(folder: Path, call: Call) -> None:
    call("filter", folder / "grey.png", "-k", "sobel_x", "--convolution", "--scale", "0.1", "-o", folder / "o.png")
    wanted = filter_picture(PICTURES["grey.png"], "sobel_x", mode="convolution", scale=0.1)
    assert numpy.array_equal(read_picture(folder / "o.png"), wanted)


def test_the_sheet_shows_all(folder: Path, call: Call) -> None:
    for name in ("alpha.png", "deep.png", "colour.tif"):
        assert "17 filters" in call("filter", folder / name, "--sheet", "-o", folder / "sheet.png").output
        assert min(read_picture(folder / "sheet.png").shape[:2]) > 500


def test_mistakes_are_named(folder: Path, error: Call) -> None:
    grey, out = folder / "grey.png", folder / "o.png"
    for arguments, message in (
        (["-k", "gausian"], "Did you mean 'gaussian'"),
        (["-k", "box", "--size", "4"], "a kernel of even size has no middle"),
        (["-k", "box", "--size", "31"], "no larger than the picture"),
        (["-k", "1 1; 1 1"], "odd sides"),
        (["-k", "-1 0 1;", "--normalise"], "do not add up to 0"),
        (["-k", "0 nan 0;"], "nan or infinity"),
        ([], "Missing option '--kernel'"),
        (["-k", "box", "--sheet"], "leave --kernel away"),
    ):
        assert message in " ".join(error("filter", grey, *arguments, "-o", out).stderr.split())
    assert "no such file" in error("filter", folder / "none.png", "-k", "box", "-o", out).stderr
    assert not out.exists()


def test_files_that_cannot_hold_or_be_a_picture(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="text.png: not a picture that can be read"):
        read_picture(folder / "text.png")
    Image.fromarray(numpy.zeros((4, 4), numpy.float32)).save(folder / "float.tif")
    with pytest.raises(DataError, match="pixels of mode F"):
        read_picture(folder / "float.tif")
    for name, pixels, message in (
        ("o.xyz", PICTURES["grey.png"], "a name that ends in .png"),
        ("o.jpg", PICTURES["deep.png"], "which can hold 16 bits"),
        ("o.tif", PICTURES["deep_colour.png"], "which can hold 16 bits in colour"),
        ("o.jpg", PICTURES["alpha.png"], "which can hold transparency"),
    ):
        with pytest.raises(ArgumentError, match=message):
            write_picture(folder / name, pixels)
    with pytest.raises(DataError, match="cannot be written"):
        write_picture(folder / "no" / "o.png", PICTURES["grey.png"])


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colour_as_opencv_reads_and_writes_it(tmp_path: Path, channels: int) -> None:
    """OpenCV's files use all the line filters; smooth pictures make it choose them."""
    y, x = numpy.mgrid[:61, :83]
    smooth = numpy.stack([400 * x + 300 * y, 700 * y, 500 * x + y * x, 65535 - 9 * x * y], axis=2).astype(numpy.uint16)
    noise = CHANCE.integers(0, 65536, smooth.shape, dtype=numpy.uint16)
    order = [2, 1, 0, 3][:channels]  # OpenCV's blue comes first
    for pixels in (smooth[:, :, :channels], noise[:, :, :channels]):
        for strategy in (cv2.IMWRITE_PNG_FILTER_AVG, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_ALL_FILTERS):
            path = str(tmp_path / "theirs.png")
            assert cv2.imwrite(path, numpy.ascontiguousarray(pixels[:, :, order]), [cv2.IMWRITE_PNG_FILTER, strategy])
            assert numpy.array_equal(read_picture(path), pixels)
        write_picture(tmp_path / "ours.png", pixels)
        theirs = cv2.imread(str(tmp_path / "ours.png"), cv2.IMREAD_UNCHANGED)
        assert theirs is not None
        assert numpy.array_equal(theirs[:, :, order], pixels)


@pytest.mark.parametrize("place", [30, 60, 500, -6])
def test_damaged_deep_colour_is_refused(folder: Path, place: int) -> None:
    content = bytearray((folder / "deep_colour.png").read_bytes())
    content[place] ^= 1
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match="bad.png: damaged"):
        read_picture(folder / "bad.png")
    (folder / "bad.png").write_bytes(content[:100])
    with pytest.raises(DataError, match="bad.png: damaged"):
        read_picture(folder / "bad.png")


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts])


def test_deep_colour_that_says_one_thing_and_is_another(folder: Path) -> None:
    """Each chunk is whole; a picture of four pixels unpacks to no more than that, whatever its file holds."""
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    end = (b"IEND", b"")
    for said, problem in (
        (png((b"IHDR", head), (b"IDAT", zlib.compress(bytes(10**6))), end), "damaged or cut short"),
        (png((b"IHDR", head), end), "damaged or cut short"),
        (png((b"IHDX", head), (b"IDAT", zlib.compress(bytes(26))), end), r"damaged picture \(no head\)"),
        (png((b"IHDR", head), (b"IDAT", zlib.compress(b"\x05" * 26)), end), r"damaged picture \(line filter 5\)"),
        (png((b"IHDR", head[:12] + b"\x01"), (b"IDAT", zlib.compress(bytes(26))), end), "in colour and interlaced"),
        (png((b"IHDR", struct.pack(">II", 20_000, 20_000) + head[8:]), end), "20000 × 20000 pixels. At most 178956970"),
    ):
        (folder / "odd.png").write_bytes(said)
        with pytest.raises(DataError, match=f"odd.png: .*{problem}"):
            read_picture(folder / "odd.png")
