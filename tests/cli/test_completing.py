"""Completion as bash itself asks for it, and the names that are kept for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Call

from convscope.cli import completing
from convscope.models import list_models


def asked(words: str, folder: Path) -> list[str]:
    """What bash offers behind ``words``, by its own completion function."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder),
    }
    script = f"""
eval "$(convscope completion bash)"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_convscope_completion convscope "${{COMP_WORDS[$COMP_CWORD]}}" 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_in_bash(tmp_path: Path) -> None:
    (tmp_path / "convscope").mkdir()
    kept = {"models": ["lenet5", "lenet5_1998", "vgg16"], "data": ["digits", "mnist"], "experiments": ["one", "two"]}
    file = tmp_path / "convscope" / "names.json"
    file.write_text(json.dumps({"mark": completing._mark(), "names": kept}))
    assert asked("convscope tr", tmp_path) == ["train"]
    assert asked("convscope train len", tmp_path) == ["lenet5", "lenet5_1998"]
    assert asked("convscope train lenet5 --data mn", tmp_path) == ["mnist"]
    assert "--data-option" in asked("convscope train --data", tmp_path)


def test_names_are_the_catalogues_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = completing.names()
    assert found["models"] == list_models()
    assert "mnist" in found["data"]
    assert "sobel" in "".join(found["kernels"])
    assert found["experiments"]
    monkeypatch.setattr(completing, "_registry", lambda *place: pytest.fail("it was kept"))
    assert completing.names() == found
    monkeypatch.setattr(completing, "_mark", lambda: ["another"])
    monkeypatch.setattr(completing, "_registry", lambda *place: ["new"])
    assert completing.names()["models"] == ["new"]


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef"), ("fish", "complete --")]
)
def test_each_shell_has_a_script(
    shell: str, sign: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: begun.append(command))
    text = call("completion", shell).stdout
    assert sign in text
    assert "_CONVSCOPE_COMPLETE" in text
    assert [command[-1] for command in begun] == ["from convscope.cli.completing import names; names()"]
    assert call("completion", "csh", code=2).stderr
