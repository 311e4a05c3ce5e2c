from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from convscope.data.idx import read_idx
from convscope.errors import DataError


def idx(values: torch.Tensor, magic: int | None = None) -> bytes:
    head = struct.pack(">I", 0x800 + values.ndim if magic is None else magic)
    return head + struct.pack(f">{values.ndim}I", *values.shape) + values.numpy().tobytes()


VALUES = torch.arange(2 * 3 * 5, dtype=torch.uint8).reshape(2, 3, 5)


@pytest.mark.parametrize("name", ["plain", "packed.gz", "packed-without-suffix"])
def test_reads_what_was_written(tmp_path: Path, name: str) -> None:
    content = idx(VALUES)
    (tmp_path / name).write_bytes(gzip.compress(content) if "packed" in name else content)
    assert torch.equal(read_idx(tmp_path / name, 3), VALUES)


def test_hand_written_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(b"\0\0\x08\x01" + b"\0\0\0\x03" + b"\x07\x02\x01")
    assert read_idx(tmp_path / "labels", 1).tolist() == [7, 2, 1]


BAD = [
    (idx(VALUES)[:-1], "cut short: 29 bytes of data, its header says 30"),
    (idx(VALUES) + b"x", "too long: more than 30 bytes of data, its header says 30"),
    (idx(VALUES)[:9], "cut short: 9 bytes, but the idx header alone has 16"),
    (b"", "cut short: 0 bytes"),
    (idx(VALUES, magic=0xD03), "wrong magic number 0x00000d03, wanted 0x00000803"),
    (idx(VALUES[0]), "wrong magic number 0x00000802"),
    (gzip.compress(idx(VALUES))[:-9], "damaged or cut short gzip file"),
    (
        gzip.compress(idx(VALUES))[:35] + b"\xff\xff\xff" + gzip.compress(idx(VALUES))[38:],
        "(damaged or cut short gzip|too long)",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message for _, message in BAD])
def test_damaged_files_are_refused_and_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte: {message}"):
        read_idx(path, 3)
    assert path.read_bytes() == content


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path, 3)


def claim(*shape: int) -> bytes:
    return struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_a_header_claims_is_not_reserved(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(claim(10**9, 28, 28) + bytes(100)))
    with pytest.raises(DataError, match=r"1,000,000,000 × 28 × 28 = 784,000,000,000 bytes, more than the limit of 4"):
        read_idx(path, 3)
    path.write_bytes(pack(claim(10**9) + bytes(100)))
    tracemalloc.start()
    with pytest.raises(DataError, match="cut short: 100 bytes of data, its header says 1,000,000,000"):
        read_idx(path, 1)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with pytest.raises(DataError, match="its header says 1,000,000,000 items, wanted 60,000"):
        read_idx(path, 1, items=60_000)
    path.write_bytes(pack(claim(2**32 - 1, 2**32 - 1, 2**32 - 1)))
    with pytest.raises(DataError, match="more than the limit"):
        read_idx(path, 3)


def test_a_bomb_is_not_unpacked_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(claim(10) + bytes(300_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="too long: more than 10 bytes of data, its header says 10"):
        read_idx(path, 1)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_the_limit_itself_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(idx(VALUES))
    assert torch.equal(read_idx(tmp_path / "file", 3, limit=30), VALUES)
    with pytest.raises(DataError, match="2 × 3 × 5 = 30 bytes, more than the limit of 29"):
        read_idx(tmp_path / "file", 3, limit=29)
