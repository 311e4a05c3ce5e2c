"""What is asked of the result of a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope.tasks.stages.stage import Outcome


@pytest.mark.parametrize("below", ["experiments/one", "experiments", "."])
def test_pictures_of_a_relative_folder(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `convscope experiment NAME` gives it: the job's own folder is absolute."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "one" / "1-train"
    folder.mkdir(parents=True)
    for name in ("kernels.png", "curves.png", "notes.txt"):
        (folder / name).touch()
    found = Outcome("1-train", folder, "", 0.0).pictures(Path(below))
    assert [str(Path(below) / each) for each in found] == [
        "experiments/one/1-train/curves.png",
        "experiments/one/1-train/kernels.png",
    ]
