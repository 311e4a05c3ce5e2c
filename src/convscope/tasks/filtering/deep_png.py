"""PNG files of 16 bits a channel in colour or with transparency, which Pillow cuts to 8 (PNG specification, third
edition)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from convscope.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type: RGB, grey with alpha, RGBA
_UP = 2
MOST_PIXELS = 178_956_970  # as Pillow: what it takes for an attack


def is_deep(head: bytes) -> bool:
    """Whether the first 26 bytes of a file say so."""
    return len(head) >= 26 and head[:8] == SIGNATURE and head[24] == 16 and head[25] in _CHANNELS


def read(path: Path) -> NDArray[Any]:
    """uint16 (height, width, channels). Raises DataError for damaged, interlaced or turned pictures."""
    content = path.read_bytes()
    chunks = _chunks(path, content)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise DataError(path, "damaged picture (no head)")
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    for found, problem in ((interlaced, "interlaced"), (b"tRNS" in chunks, "with a transparent colour"),
                           (b"eXIf" in chunks, "with a camera's notes, which may turn it")):  # fmt: skip
        if found:
            raise DataError(path, f"16 bits a channel in colour and {problem}", "Save it plainly, or with 8 bits")
    if width * height > MOST_PIXELS:
        raise DataError(path, f"{width} × {height} pixels", f"At most {MOST_PIXELS} are read")
    size = 2 * _CHANNELS[colour]
    expected = height * (1 + width * size)
    try:  # no further than the picture goes: a small file may unpack to any size
        unpacked = zlib.decompressobj().decompress(chunks[b"IDAT"], expected + 1)
        lines = numpy.frombuffer(unpacked, numpy.uint8).reshape(height, 1 + width * size)
    except (zlib.error, ValueError, KeyError) as problem:
        raise DataError(path, f"damaged or cut short picture ({problem})") from problem
    if lines[:, 0].max() > 4:
        raise DataError(path, f"damaged picture (line filter {lines[:, 0].max()})")
    pixels = _unfiltered(lines[:, 0], lines[:, 1:].reshape(height, width, size))
    return numpy.ascontiguousarray(pixels).view(">u2").astype(numpy.uint16)


def write(path: Path, pixels: NDArray[Any]) -> None:
    """``pixels`` uint16 (height, width, 2 to 4); every line as its difference from the one above."""
    height, width, channels = pixels.shape
    plain = numpy.ascontiguousarray(pixels.astype(">u2")).view(numpy.uint8).reshape(height, -1)
    lines = numpy.full((height, 1 + plain.shape[1]), _UP, numpy.uint8)
    lines[0, 1:] = plain[0]
    lines[1:, 1:] = plain[1:] - plain[:-1]
    colour = {count: kind for kind, count in _CHANNELS.items()}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    path.write_bytes(SIGNATURE + b"".join(made))


def _chunks(path: Path, content: bytes) -> dict[bytes, bytes]:
    """The chunks by name, those of the same name put together; DataError for a checksum that does not fit."""
    found: dict[bytes, bytes] = {}
    place = len(SIGNATURE)
    pieces: dict[bytes, list[bytes]] = {}
    while b"IEND" not in pieces:
        if place + 12 > len(content):
            raise DataError(path, "damaged or cut short picture (no end)")
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if len(data) < length or content[place + 8 + length : place + 12 + length] != struct.pack(
            ">I", zlib.crc32(kind + data)
        ):
            raise DataError(path, f"damaged or cut short picture (chunk {kind!r})")
        pieces.setdefault(kind, []).append(data)
        place += 12 + length
    for kind, each in pieces.items():
        found[kind] = b"".join(each)
    return found


def _unfiltered(filters: NDArray[Any], lines: NDArray[Any]) -> NDArray[Any]:
    """The bytes (h, w, size) from their differences: x = line + predictor(left a, above b, above left c), mod 256.

    All pixels of a diagonal x + y = d at once: they need those of the two diagonals before it only.
    """
    height, width, size = lines.shape
    out = numpy.zeros((height + 1, width + 1, size), numpy.uint8)  # a row and a column of zeros before it
    for diagonal in range(height + width - 1):
        y = numpy.arange(max(0, diagonal - width + 1), min(height - 1, diagonal) + 1)
        x = diagonal - y
        a, b, c = (out[y + dy, x + dx].astype(numpy.int16) for dy, dx in ((1, 0), (0, 1), (0, 0)))
        to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        nearest = numpy.where((to_a <= to_b) & (to_a <= to_c), a, numpy.where(to_b <= to_c, b, c))
        predicted = numpy.choose(filters[y][:, None], [numpy.zeros_like(a), a, b, (a + b) // 2, nearest])
        out[y + 1, x + 1] = (lines[y, x] + predicted) & 255
    return out[1:, 1:]
