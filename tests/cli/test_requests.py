"""How a run's data were asked for: kept, read back, and refused when damaged."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from convscope.cli.requests import read_request, request, write_request
from convscope.errors import CheckpointError


def test_a_request_comes_back(tmp_path: Path) -> None:
    asked = request("digits", tmp_path, ["classes=猫,dog"])
    write_request(tmp_path, asked)
    assert read_request(tmp_path) == asked
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_a_path_that_is_no_utf8_comes_back(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    write_request(tmp_path, request(str(folder), None, []))
    found = read_request(tmp_path)
    assert found is not None
    assert Path(found["data"]) == folder
    assert Path(found["data"]).is_dir()


def test_a_run_of_python_code_has_none(tmp_path: Path) -> None:
    assert read_request(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"data": "digits"}', b'{"data": 3, "root": null, "options": []}',
        b'{"data": "digits", "root": 0, "options": []}', b'{"data": "digits", "root": null, "options": "abc"}',
        b'{"data": "digits", "root": null, "options": [1]}', b"\xff\xfe\x00", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'data.json'}: damaged")) as raised:
        read_request(tmp_path)
    assert "Give --data" in str(raised.value)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").mkdir()
    with pytest.raises(CheckpointError, match="data.json: Is a directory"):
        read_request(tmp_path)
    with pytest.raises(CheckpointError, match="What was there before is untouched"):
        write_request(tmp_path, request("digits", None, []))
