"""``convscope doctor``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Call

from convscope.cli import health
from convscope.native import availability


def test_it_says_what_is_there(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "half").write_text("")
    text = call("doctor", "--root", tmp_path).stdout
    for name in ("processor", "torch", "engine", "compiler", "GPU", "data", "onnx", "terminal"):
        assert f"  {name} " in text
    found = json.loads(call("doctor", "--root", tmp_path, "--json").stdout)
    assert found["data"]["there"] == ["digits"]
    assert found["data"]["incomplete"] == ["mnist"]
    assert "cifar10" in found["data"]["missing"]
    assert found["torch"]["state"] == "there"
    assert found["processor"]["threads"] >= 1


def test_what_lacks_is_no_error_and_has_a_remedy(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(availability, "problem", lambda: "no module")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(health._OPTIONAL, "no_such_module", ("such-package", "such", "nothing"))
    text = call("doctor", "--root", tmp_path).stdout
    assert "not built (no module)\n" in text
    assert "Install a C++20 compiler" in text
    assert "no C++ compiler" in text
    assert "pip install 'convscope[such]'" in text


def test_what_is_broken_is_told_beside_the_rest(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> list[health.Finding]:
        raise OSError("no such processor")

    monkeypatch.setattr(health, "_processor", broken)
    text = call("doctor", "--root", tmp_path, code=1).stdout
    assert "✗  processor" in text
    assert "OSError: no such processor" in text
    assert "✓  torch" in text
