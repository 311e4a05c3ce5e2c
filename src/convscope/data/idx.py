"""The idx format of MNIST: magic, sizes as big-endian 32-bit integers, then unsigned bytes; plain or gzipped.

The magic is 0, 0, type (8 = unsigned byte), number of dimensions (LeCun, "The MNIST database").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch

from convscope.data.files import read_bytes
from convscope.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dims: int) -> torch.Tensor:
    """The uint8 tensor of ``dims`` dimensions in ``path``, which may be gzipped whatever its name says.

    Raises DataError for a wrong magic number, a damaged gzip stream, or a length that differs from the header's.
    """
    content = read_maybe_gzipped(path)
    header = 4 + 4 * dims
    if len(content) < header:
        raise DataError(path, f"cut short: {len(content)} bytes, but the idx header alone has {header}", _AGAIN)
    magic, wanted = struct.unpack(">I", content[:4])[0], (_UNSIGNED_BYTE << 8) | dims
    if magic != wanted:
        raise DataError(
            path, f"wrong magic number 0x{magic:08x}, wanted 0x{wanted:08x} (unsigned bytes, {dims} dimensions)", _AGAIN
        )
    shape = struct.unpack(f">{dims}I", content[4:header])
    length = math.prod(shape)
    if len(content) - header != length:
        state = "cut short" if len(content) - header < length else "too long"
        raise DataError(path, f"{state}: {len(content) - header:,} bytes of data, its header says {length:,}", _AGAIN)
    if length == 0:
        return torch.zeros(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(memoryview(content)[header:]), dtype=torch.uint8).reshape(shape)


def read_maybe_gzipped(path: Path) -> bytes:
    """The content of ``path``, unpacked where it starts like a gzip file."""
    content = read_bytes(path)
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(path, f"damaged or cut short gzip file ({error})", _AGAIN) from error


_AGAIN = "Fetch the file again"
