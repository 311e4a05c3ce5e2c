"""The idx format of MNIST: magic, sizes as big-endian 32-bit integers, then unsigned bytes; plain or gzipped.

The magic is 0, 0, type (8 = unsigned byte), number of dimensions (LeCun, "The MNIST database").
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from convscope import files
from convscope.data.files import UNPACKED_LIMIT
from convscope.errors import DataError

_UNSIGNED_BYTE = 8
_CHUNK = 1 << 22  # bytes unpacked at a time: memory grows with what is there, whatever the header says
_AGAIN = "Fetch the file again"


def read_idx(path: Path, dims: int, items: int | None = None, limit: int = UNPACKED_LIMIT) -> torch.Tensor:
    """The uint8 tensor of ``dims`` dimensions in ``path``, which may be gzipped whatever its name says.

    Raises DataError for a wrong magic number, a damaged gzip stream, a length that differs from the header's, another
    number of ``items`` than was wanted, and, before anything is unpacked, for more than ``limit`` bytes.
    """
    with _opened(path) as file:
        size = 4 + 4 * dims
        head = file.read(size)
        if len(head) < size:
            raise DataError(path, f"cut short: {len(head)} bytes, but the idx header alone has {size}", _AGAIN)
        magic, wanted = struct.unpack(">I", head[:4])[0], (_UNSIGNED_BYTE << 8) | dims
        if magic != wanted:
            kind = f"wanted 0x{wanted:08x} (unsigned bytes, {dims} dimensions)"
            raise DataError(path, f"wrong magic number 0x{magic:08x}, {kind}", _AGAIN)
        shape = struct.unpack(f">{dims}I", head[4:])
        length = math.prod(shape)
        if items is not None and shape[0] != items:
            raise DataError(path, f"its header says {shape[0]:,} items, wanted {items:,}")
        if length > limit:
            told = f"{' × '.join(f'{each:,}' for each in shape)} = {length:,} bytes"
            raise DataError(path, f"its header says {told}, more than the limit of {limit:,}", _AGAIN)
        content = _read(file, length)
        more = len(content) == length and file.read(1)
    if len(content) < length or more:
        state, found = ("too long", f"more than {length:,}") if more else ("cut short", f"{len(content):,}")
        raise DataError(path, f"{state}: {found} bytes of data, its header says {length:,}", _AGAIN)
    if length == 0:
        return torch.zeros(shape, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape)


def _read(file: BinaryIO, length: int) -> bytearray:
    """At most ``length`` bytes."""
    content = bytearray()
    while len(content) < length:
        chunk = file.read(min(_CHUNK, length - len(content)))
        if not chunk:
            break
        content += chunk
    return content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The content of ``path`` as a stream, unpacked where it starts like a gzip file."""
    try:
        files.check_regular(path)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(path, f"damaged or cut short gzip file ({error})", _AGAIN) from error
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
