"""Headers of safetensors files that say nonsense, and texts that are no UTF-8. (What comes back whole, and damage that
the checksum finds: tests/training/test_checkpoints.py.)"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from convscope import files, tensorfile
from convscope.data import load_dataset
from convscope.data.idx import read_idx
from convscope.errors import CheckpointError, DataError
from convscope.models.statefile import read_state

TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def signed(header: object, data: bytes = bytes(4)) -> bytes:
    """A file of this header and data whose checksum is right: what somebody could make who means harm."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    content = struct.pack("<Q", len(text)) + text + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def metadata(description: object) -> dict[str, Any]:
    return {"convscope": json.dumps(description), "sha256": "0" * 64}


def test_a_signed_file_is_read() -> None:
    content = signed({"__metadata__": metadata({"format": 1}), "w": TENSOR})
    tensors, description = tensorfile.read_tensors(Path("x"), content)
    assert description == {"format": 1}
    assert torch.equal(tensors["w"], torch.zeros(1))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"{", "its header is damaged"),
        (b'{"a":' + b"[" * 100_000, "its header is damaged (maximum recursion depth"),
        (b'{"a":' + b"1" * 5_000 + b"}", "its header is damaged (Exceeds the limit"),
        (b"{\xff}", "its header is damaged"),
        ({"__metadata__": [], "w": TENSOR}, "metadata that are no texts"),
        ({"__metadata__": {"sha256": 5}}, "metadata that are no texts"),
        ({"__metadata__": metadata({}), "w": 3}, "its header is damaged"),
        ({"__metadata__": metadata({}), "w": {"data_offsets": []}}, "its header is damaged"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "data_offsets": [0, "4"]}}, "no integers"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "data_offsets": [0, 4.5]}}, "no integers"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "data_offsets": [0, None]}}, "no integers"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "data_offsets": [0, 10**18]}}, "cut short"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "shape": [10**18]}}, "not a whole safetensors file"),
        ({"__metadata__": metadata({}), "w": {**TENSOR, "dtype": "F99"}}, "not a whole safetensors file"),
        ({"__metadata__": metadata([]), "w": TENSOR}, "its description is damaged (not an object)"),
        ({"__metadata__": {**metadata(0), "convscope": "{"}, "w": TENSOR}, "its description is damaged"),
        ({"__metadata__": {**metadata(0), "convscope": "[" * 100_000}, "w": TENSOR}, "its description is damaged"),
        ({"__metadata__": {"sha256": "0" * 64}, "w": TENSOR}, "no checksum"),
    ],
)
def test_a_header_of_nonsense_is_refused(header: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)):
        tensorfile.read_tensors(Path("x.safetensors"), signed(header))


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Is a directory"):
        tensorfile.read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="Is a directory. What was there before is untouched"):
        tensorfile.write_tensors(tmp_path, {"w": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="Is a directory. What was there before is untouched"):
        tensorfile.write_text(tmp_path, "x")
    assert list(tmp_path.parent.glob(".*part")) == []


def test_json_keeps_names_that_are_no_utf8(tmp_path: Path) -> None:
    path, name = tmp_path / "x.json", os.fsdecode(b"caf\xe9")
    files.write_text(path, json.dumps([name, "猫"], ensure_ascii=False))
    assert path.read_bytes() == '["caf\\udce9", "猫"]'.encode()
    assert os.fsencode(tensorfile.read_json(path)[0]) == b"caf\xe9"
    files.append_line(path, name)
    assert path.read_bytes().endswith(b"]caf\\udce9\n")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, problem in ((tmp_path / "pipe", "Is no file but a pipe"), (Path("/dev/zero"), "Is no file but a pipe")):
        with pytest.raises(CheckpointError, match=problem):
            tensorfile.read_bytes(path)
        with pytest.raises(CheckpointError, match=problem):
            read_state(path)
        with pytest.raises(DataError, match=problem):
            read_idx(path, 3)
    with pytest.raises(CheckpointError, match="No file has such a name"):
        tensorfile.read_bytes(Path("a\0b"))
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset("/" + "a" * 5000)
