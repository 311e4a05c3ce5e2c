"""``convscope filter``: pictures of every kind come out with their depth and transparency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    deep = bytearray((folder / "alpha.png").read_bytes())
    deep[24] = 16
    (folder / "deep_colour.png").write_bytes(deep)
    with pytest.raises(DataError, match="16 bits a channel in colour, which cannot be read whole"):
        read_picture(folder / "deep_colour.png")
    Image.fromarray(numpy.zeros((4, 4), numpy.float32)).save(folder / "float.tif")
    with pytest.raises(DataError, match="pixels of mode F"):
        read_picture(folder / "float.tif")
    for name, pixels, message in (
        ("o.xyz", PICTURES["grey.png"], "a name that ends in .png"),
        ("o.jpg", PICTURES["deep.png"], "which can hold 16 bits"),
        ("o.jpg", PICTURES["alpha.png"], "which can hold transparency"),
    ):
        with pytest.raises(ArgumentError, match=message):
            write_picture(folder / name, pixels)
    with pytest.raises(DataError, match="cannot be written"):
        write_picture(folder / "no" / "o.png", PICTURES["grey.png"])
