"""Pictures of one pixel and of 8,000×6,000, grey, CMYK and empty ones in one folder: learned from, and answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.tasks.detection.test_detection import _annotation

from convscope import fit, load, predict
from convscope.data import load_dataset


@pytest.mark.long
def test_a_folder_of_the_smallest_and_the_largest(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True)
    pictures = {
        "one": ("RGB", (1, 1), (1, 1, 1, 1)), "huge": ("RGB", (8000, 6000), (100, 100, 4000, 3000)),
        "grey": ("L", (60, 48), (5, 5, 30, 30)), "print": ("CMYK", (60, 48), (5, 5, 30, 30)),
        "empty": ("RGB", (60, 48), None), "plain": ("RGB", (60, 48), (5, 5, 30, 30)),
    }  # fmt: skip
    for name, (mode, size, box) in pictures.items():
        Image.new("RGB", size, "pink").convert(mode).save(folder / "JPEGImages" / f"{name}.jpg")
        said = _annotation(f"{name}.jpg", [] if box is None else [("cell", box)])
        said = said.replace("<width>48<", f"<width>{size[0]}<").replace("<height>40<", f"<height>{size[1]}<")
        (folder / "Annotations" / f"{name}.xml").write_text(said)
    result = fit(
        "faster_rcnn", load_dataset(folder, test_fraction=0.2), epochs=1, batch_size=2, watch=False, device="cpu",
        model_options={"small": True, "width": 0.25, "hidden": 8, "proposals": 8}, run_dir=str(tmp_path / "run"),
        settings={"shorter": 48, "longest": 64},
    )  # fmt: skip
    assert result.history[-1].train["loss"] > 0
    answers = list(predict(load(tmp_path / "run" / "model.safetensors"), folder / "JPEGImages"))
    assert sorted(answer.size for answer in answers)[0] == (1, 1)
    assert sorted(answer.size for answer in answers)[-1] == (6000, 8000)
