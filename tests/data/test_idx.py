from __future__ import annotations

import gzip
import struct
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
    (idx(VALUES) + b"x", "too long: 31 bytes of data, its header says 30"),
    (idx(VALUES)[:9], "cut short: 9 bytes, but the idx header alone has 16"),
    (b"", "cut short: 0 bytes"),
    (idx(VALUES, magic=0xD03), "wrong magic number 0x00000d03, wanted 0x00000803"),
    (idx(VALUES[0]), "wrong magic number 0x00000802"),
    (gzip.compress(idx(VALUES))[:-9], "damaged or cut short gzip file"),
    (gzip.compress(idx(VALUES))[:20] + b"\xff\xff\xff" + gzip.compress(idx(VALUES))[23:], "damaged or cut short gzip"),
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
