from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from convscope.data import decoded

VALUES = {"images": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4), "labels": torch.tensor([1, 0])}
KEY = "0123456789abcdef"


def never() -> decoded.Tensors:
    pytest.fail("built again")


def test_kept_in_the_first_place_and_read_back(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    assert decoded.cached("set", places, KEY, lambda: dict(VALUES)) == VALUES
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"set-{KEY}.safetensors"]
    assert not (tmp_path / "b").exists()
    again = decoded.cached("set", places, KEY, never)
    assert all(torch.equal(again[name], VALUES[name]) for name in VALUES)


def test_a_new_fingerprint_replaces_the_old_copy_only_of_the_same_name(tmp_path: Path) -> None:
    other = tmp_path / f"set-parquet-{KEY}.safetensors"
    other.write_bytes(b"")
    decoded.cached("set", [tmp_path], KEY, lambda: dict(VALUES))
    decoded.cached("set", [tmp_path], KEY[::-1], lambda: dict(VALUES))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"set-{KEY[::-1]}.safetensors", other.name]


@pytest.mark.parametrize("keep", [0, 20, -3])
def test_a_damaged_copy_is_made_anew(tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    decoded.cached("set", [tmp_path], KEY, lambda: dict(VALUES))
    path = tmp_path / f"set-{KEY}.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert decoded.cached("set", [tmp_path], KEY, lambda: dict(VALUES)) == VALUES
    assert "damaged copy of decoded pictures is made anew" in caplog.text
    decoded.cached("set", [tmp_path], KEY, never)


def test_a_full_disk_costs_the_copy_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoded, "save_file", full)
    with caplog.at_level(logging.WARNING):
        assert decoded.cached("set", [tmp_path / "a", tmp_path / "b"], KEY, lambda: dict(VALUES)) == VALUES
    assert "could not be kept" in caplog.text
    assert "No space left on device" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_second_place_is_used_where_the_first_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set").chmod(0o555)
    try:
        decoded.cached("set", [tmp_path / "set" / "x", tmp_path / "home"], KEY, lambda: dict(VALUES))
        assert not (tmp_path / "set" / "x").exists()
        decoded.cached("set", [tmp_path / "set" / "x", tmp_path / "home"], KEY, never)
    finally:
        (tmp_path / "set").chmod(0o755)


def test_fingerprint_changes_with_files_and_options(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = decoded.fingerprint_of([path], size=3)
    assert first == decoded.fingerprint_of([path], size=3)
    assert first != decoded.fingerprint_of([path], size=4)
    path.write_bytes(b"three")
    assert first != decoded.fingerprint_of([path], size=3)
