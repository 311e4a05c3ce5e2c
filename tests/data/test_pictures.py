from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from convscope.data.pictures import (
    decode_picture,
    find_pictures,
    find_pictures_below,
    load_picture,
    load_pictures,
    probe_picture,
)
from convscope.errors import DataError
from convscope.spec import Preprocessing

RAMP = numpy.arange(6 * 4, dtype=numpy.uint8).reshape(6, 4) * 10  # 6 rows, 4 columns


def colour() -> numpy.ndarray:
    return numpy.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm", "gif"])
def test_grey_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(RAMP).save(path)
    picture = load_picture(path)
    # GIF has a palette only, so it counts as colour
    assert picture.shape == ((3 if suffix == "gif" else 1), 6, 4)
    assert numpy.array_equal(picture[0].numpy(), RAMP)
    assert probe_picture(path) == tuple(picture.shape)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_colour_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"colour.{suffix}"
    Image.fromarray(colour()).save(path, lossless=True)  # what is not WebP ignores it
    picture = load_picture(path)
    assert numpy.array_equal(picture.permute(1, 2, 0).numpy(), colour())
    assert probe_picture(path) == (3, 6, 4)


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = numpy.add.outer(numpy.arange(40), numpy.arange(30)).astype(numpy.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert (load_picture(tmp_path / "a.jpg")[0].int() - torch.from_numpy(smooth).int()).abs().max() <= 3


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    layered = numpy.dstack([colour(), numpy.zeros((6, 4), dtype=numpy.uint8)])
    layered[0, 0, 3] = 255
    Image.fromarray(layered).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    assert picture.shape == (3, 6, 4)
    assert picture[:, 0, 0].tolist() == colour()[0, 0].tolist()
    assert picture[:, 1:].min() == 255
    Image.fromarray(layered).convert("LA").save(tmp_path / "grey.png")
    assert load_picture(tmp_path / "grey.png").shape == (1, 6, 4)
    assert load_picture(tmp_path / "grey.png")[0, 1:].min() == 255


def test_palette_and_transparent_palette(tmp_path: Path) -> None:
    palette = Image.fromarray(colour()).quantize(16)
    palette.save(tmp_path / "plain.png")
    assert load_picture(tmp_path / "plain.png").shape == (3, 6, 4)
    index = int(numpy.asarray(palette)[2, 1])
    palette.save(tmp_path / "clear.png", transparency=index)
    assert load_picture(tmp_path / "clear.png")[:, 2, 1].tolist() == [255, 255, 255]


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = RAMP.astype(numpy.uint16) * 257
    deep[0, 1] = 65535
    Image.fromarray(deep).save(tmp_path / "deep.png")
    picture = load_picture(tmp_path / "deep.png")
    assert picture.shape == (1, 6, 4)
    assert picture[0, 0, 1] == 255
    assert numpy.array_equal(picture[0, 1:].numpy(), RAMP[1:])
    header = b"P5 4 6 65535\n"
    (tmp_path / "deep.pgm").write_bytes(header + deep.astype(">u2").tobytes())
    assert torch.equal(load_picture(tmp_path / "deep.pgm"), picture)


def test_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "bits.png")
    assert set(load_picture(tmp_path / "bits.png").flatten().tolist()) == {0, 255}
    Image.fromarray(colour()).convert("CMYK").save(tmp_path / "print.tif")
    assert (load_picture(tmp_path / "print.tif").permute(1, 2, 0).numpy().astype(int) - colour()).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "expected"), [(1, RAMP), (3, RAMP[::-1, ::-1]), (6, RAMP[::-1].T), (8, RAMP.T[::-1])]
)
def test_orientation_of_the_camera(tmp_path: Path, orientation: int, expected: numpy.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)
    assert numpy.array_equal(load_picture(tmp_path / "turned.png")[0].numpy(), expected)
    assert probe_picture(tmp_path / "turned.png") == (1, *expected.shape)


def test_too_large_is_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (400, 300)).save(tmp_path / "big.png")
    with pytest.raises(DataError, match=r"big\.png: picture too large, 400×300 is more than 100,000 pixels"):
        load_picture(tmp_path / "big.png", max_pixels=100_000)
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    bomb = head + zlib.crc32(head[12:]).to_bytes(4, "big") + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"bomb\.png: picture too large, 3,600,000,000 pixels are more than 80,000,000"):
        load_picture(tmp_path / "bomb.png")


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).save(
        tmp_path / "a.png"
    )
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.png: damaged or cut short picture"):
        load_picture(tmp_path / "cut.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.jpg: not a picture that can be read"):
        load_picture(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        load_picture(tmp_path / "gone.png")
    with pytest.raises(DataError, match="row 7: not a picture"):
        decode_picture(b"\0\1\2", "row 7")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        load_picture(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: cannot be read: Is no file but a pipe, a socket or a device"):
        load_picture(tmp_path / "pipe.png")


def test_odd_metadata_is_nobodys_concern(tmp_path: Path) -> None:
    """Pillow warns of such a file, and here warnings are errors."""
    promised = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"  # five entries are announced, the first breaks off
    Image.fromarray(RAMP).save(tmp_path / "odd.jpg", exif=promised)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"), Image.open(tmp_path / "odd.jpg") as image:
        image.getexif()
    assert load_picture(tmp_path / "odd.jpg").shape == probe_picture(tmp_path / "odd.jpg") == (1, 6, 4)


def test_floating_point_and_wide_grey_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(numpy.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"floating-point numbers. Save it with 8 or 16 bits"):
        load_picture(tmp_path / "float.tif")
    Image.fromarray(RAMP.astype(numpy.int32) - 5).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match="grey values from -5 to"):
        load_picture(tmp_path / "wide.tif")


def test_decode_from_memory() -> None:
    buffer = io.BytesIO()
    Image.fromarray(colour()).save(buffer, "PNG")
    assert numpy.array_equal(decode_picture(buffer.getvalue(), "x").permute(1, 2, 0).numpy(), colour())


def test_many_pictures_prepared_for_a_model(tmp_path: Path) -> None:
    Image.fromarray(colour()).save(tmp_path / "b.png")
    Image.fromarray(RAMP).save(tmp_path / "a.PGM", format="PPM")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    paths = find_pictures(tmp_path)
    assert [path.name for path in paths] == ["a.PGM", "b.png"]
    batch = load_pictures(paths, Preprocessing(1, (8, 8), (0.5,), (0.2,), "pad"))
    assert batch.shape == (2, 1, 8, 8)
    assert numpy.array_equal(batch[0, 0, 1:7, 2:6].numpy(), RAMP)


def png(rows: numpy.ndarray, bits: int, kind: int, clear: int | tuple[int, int, int]) -> bytes:
    """A PNG of this bit depth with one clear grey (kind 0) or colour (kind 2); ``rows`` are its packed bytes."""
    height, width = 2, 4

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    numbers = (clear,) if isinstance(clear, int) else clear
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(f">{len(numbers)}H", *numbers))
        + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_clear_grey_of_any_depth(bits: int, which: int) -> None:
    top = 2**bits - 1
    values = numpy.array([[0, 1, top // 2, top], [top, top // 2, 1, 0]])
    clear = int(values[0, which])
    if bits == 16:
        packed = values.astype(">u2")
    else:
        bit = numpy.unpackbits(values.astype(numpy.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
        packed = numpy.packbits(bit.reshape(2, -1), axis=1)
    expected = numpy.where(values == clear, 255, numpy.rint(values * 255 / top)).astype(numpy.uint8)
    content = png(packed, bits, 0, clear)
    assert decode_picture(content, "x")[0].tolist() == expected.tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_clear_colour_of_any_depth(bits: int) -> None:
    unit = 257 if bits == 16 else 1
    values = numpy.full((2, 4, 3), 9 * unit)
    values[1, 2] = 10 * unit, 20 * unit, 30 * unit
    values[1, 3] = values[1, 2] + (int(bits == 8), 0, 1)  # of 16 bits the upper 8 are those of the clear colour
    content = png(values.astype(">u2" if bits == 16 else "u1"), bits, 2, tuple(map(int, values[1, 2])))  # type: ignore[arg-type]
    picture = decode_picture(content, "x").permute(1, 2, 0)
    assert picture[1, 2].tolist() == [255, 255, 255]
    assert (picture == 255).sum() == 3
    assert picture[0, 0].tolist() == [9, 9, 9]


def test_deep_grey_with_opacity_stays_grey(tmp_path: Path) -> None:
    values = numpy.array([[[0, 0], [100, 65535], [200, 65535], [50, 0]]] * 2) * numpy.array([257, 1])
    content = png(values.astype(">u2"), 16, 4, 0)
    content = content.replace(content[33 : 33 + 14], b"")  # without the clear grey, which this kind must not have
    (tmp_path / "x.png").write_bytes(content)
    picture = load_picture(tmp_path / "x.png")
    assert picture[0].tolist() == [[255, 100, 200, 255]] * 2  # on white
    assert probe_picture(tmp_path / "x.png") == picture.shape


def test_no_program_is_run_for_a_picture(tmp_path: Path) -> None:
    """PostScript is a program, and Pillow hands it to an interpreter."""
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(DataError, match="not a picture that can be read"):
        load_picture(tmp_path / "x.png")


@pytest.mark.parametrize("side", [10_000, 20_000, 60_000])
def test_a_huge_picture_is_named_with_its_size(tmp_path: Path, side: int) -> None:
    head = struct.pack(">II", side, side) + b"\x08\0\0\0\0"
    content = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + head + zlib.crc32(b"IHDR" + head).to_bytes(4, "big")
    content += b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    size = f"({side}×{side} is|{side * side:,} pixels are)"
    (tmp_path / "x.png").write_bytes(content)
    for read in (load_picture, probe_picture):
        with pytest.raises(DataError, match=rf"x\.png: picture too large, {size} more than 80,000,000 pixels"):
            read(tmp_path / "x.png")


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for name in (
        "b/1.png",
        "b/.2.png",
        "a/c/3.jpg",
        ".ipynb_checkpoints/4.png",
        "a/.git/5.png",
        "a/notes.txt",
        "6.bmp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a/folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures_below(tmp_path)]
    assert found == ["6.bmp", "a/c/3.jpg", "b/1.png"]
    assert len(find_pictures_below(tmp_path / ".ipynb_checkpoints")) == 1  # one that was named itself
