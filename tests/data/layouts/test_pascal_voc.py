from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError

Things = list[tuple[str, tuple[float, float, float, float]]]


def annotation(things: Things, size: tuple[int, int] | None = (20, 30), difficult: bool = False) -> str:
    """``size`` is (height, width)."""
    sides = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox><part><name>head</name></part></object>"
        for name, (x1, y1, x2, y2) in things
    )
    return f"<annotation><filename>x.jpg</filename>{sides}{objects}</annotation>"


def picture(path: Path, size: tuple[int, int] = (20, 30), value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.full((*size, 3), value, dtype=numpy.uint8)).save(path)


def voc(folder: Path, things: dict[str, Things], lists: dict[str, list[str]] | None = None) -> Path:
    for number, (stem, own) in enumerate(things.items()):
        picture(folder / "JPEGImages" / f"{stem}.png", value=number * 10)
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{stem}.xml").write_text(annotation(own))
    for name, stems in (lists or {}).items():
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return folder


FEW: dict[str, Things] = {
    "a": [("dog", (1, 1, 30, 20)), ("cat", (3, 4, 10, 12))],
    "b": [],
    "c": [("cat", (5, 5, 6, 6))],
    "d": [("dog", (2, 3, 9, 9))],
}
LISTS = {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"], "test": ["d"]}


def test_boxes_count_from_the_edge_of_the_first_pixel(tmp_path: Path) -> None:
    data = load_dataset(voc(tmp_path / "pets", FEW, LISTS))
    assert (data.name, data.kind, data.classes) == ("pets", "boxes", ("cat", "dog"))
    assert (len(data.train), len(data.test)) == (3, 1)
    targets = data.train.batch(torch.arange(3)).targets
    assert targets.boxes.tolist() == [[0, 0, 30, 20], [2, 3, 10, 12], [4, 4, 6, 6]]
    assert targets.labels.tolist() == [1, 0, 0]
    assert targets.counts.tolist() == [2, 0, 1]
    assert data.train.batch(torch.tensor([2])).inputs[0].unique().tolist() == [20]
    assert data.test.batch(torch.tensor([0])).targets.boxes.tolist() == [[1, 2, 9, 9]]
    assert data.train.left_out == {}


def test_which_lists_are_taken(tmp_path: Path) -> None:
    folder = voc(tmp_path, FEW, LISTS)
    for train, test, sizes in (("train", "val", (2, 1)), ("test", "val", (1, 1))):
        data = load_dataset(folder, train=train, test=test)
        assert (len(data.train), len(data.test)) == sizes
    (folder / "ImageSets" / "Main" / "test.txt").write_text("without\nannotations\n")  # as the challenges' last ones
    data = load_dataset(folder)
    assert (len(data.train), len(data.test)) == (2, 1)
    with pytest.raises(DataError, match=r"trainval\.txt.*|1 pictures are in both"):
        load_dataset(folder, train="trainval", test="val")
    with pytest.raises(DataError, match=r"vale\.txt: no such list of pictures\. There are: test, train, trainval, val"):
        load_dataset(folder, test="vale")


def test_without_lists_a_part_is_set_aside(tmp_path: Path) -> None:
    things = {f"p{number:02}": FEW["a"] for number in range(10)}
    data = load_dataset(voc(tmp_path, things), test_fraction=0.3, seed=4)
    assert (len(data.train), len(data.test)) == (7, 3)
    again = load_dataset(tmp_path, test_fraction=0.3, seed=4)
    assert data.fingerprint() == again.fingerprint()
    assert data.fingerprint() != load_dataset(tmp_path, test_fraction=0.3, seed=6).fingerprint()


def test_classes_and_their_order(tmp_path: Path) -> None:
    folder = voc(tmp_path, FEW, LISTS)
    data = load_dataset(folder, classes="dog,horse")
    assert data.classes == ("dog", "horse")
    assert data.train.counts() == [1, 0]
    assert len(data.train) == 3
    with pytest.raises(ArgumentError, match="clases: got 'dog', wanted an option of .*Did you mean 'classes'"):
        load_dataset(folder, clases="dog")


@pytest.mark.parametrize("in_memory", [True, False])
def test_pictures_scaled_down_with_their_boxes(tmp_path: Path, in_memory: bool) -> None:
    folder = voc(tmp_path, FEW, LISTS)
    data = load_dataset(folder, longest=15, in_memory=in_memory)
    batch = data.train.batch(torch.arange(3))
    assert data.train.on_disk is not in_memory
    assert batch.inputs[0].shape == (3, 3, 10, 15)
    assert batch.targets.boxes.tolist() == [[0, 0, 15, 10], [1, 1.5, 5, 6], [2, 2, 3, 3]]
    assert load_dataset(folder, longest=500).train.pictures.shape == (3, 20, 30)
    with pytest.raises(ArgumentError, match="longest: got 0, wanted an integer ≥ 1"):
        load_dataset(folder, longest=0)


def test_what_cannot_be_used_is_left_out_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = voc(tmp_path, FEW, LISTS)
    annotations, pictures = folder / "Annotations", folder / "JPEGImages"
    things: Things = [("cat", (4, 4, 4, 9)), ("cat", (40, 2, 50, 9)), ("dog", (25, 15, 33, 22)), ("dog", (2, 2, 9, 9))]
    (annotations / "a.xml").write_text(annotation(things, size=None, difficult=True))
    (annotations / "b.xml").write_text("<annotation><object>")
    picture(pictures / "c.png", size=(10, 10))
    for stem, content in (("e", "gone"), ("f", "no picture"), ("g", "")):
        (annotations / f"{stem}.xml").write_text(annotation(FEW["a"]))
        if stem == "f":
            (pictures / "f.png").write_text(content)
    (annotations / "g.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    picture(pictures / "h.png")
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("a\nb\nc\ne\nf\ng\nh\n")
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(folder)
    assert len(data.train) == 1
    targets = data.train.batch(torch.tensor([0])).targets
    assert targets.boxes.tolist() == [[24, 14, 30, 20], [1, 1, 9, 9]]
    assert targets.difficult.tolist() == [True, True]
    left_out = data.train.left_out
    assert left_out["boxes without area"] == left_out["boxes outside their picture"] == 1
    assert left_out["boxes over the edge, cut there"] == 1
    assert left_out["pictures without annotation"] == left_out["missing pictures"] == 1
    assert left_out["pictures of another size than their annotation says"] == 1
    broken = [what for what in left_out if what.startswith("broken annotations")]
    assert len(broken) == 2
    assert any("an object without a name or a box" in what for what in broken)
    assert any(what.startswith("unreadable pictures (not a picture") for what in left_out)
    assert sum(left_out.values()) == 9
    assert len(caplog.records) == 1
    said = caplog.text
    assert "not taken as they are: " in said
    assert "1 boxes without area (a.png)" in said
    assert "1 pictures without annotation (h)" in said


def test_a_folder_of_which_nothing_can_be_used(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"a": [], "b": []}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError, match="no annotation has a box"):
        load_dataset(folder)
    (folder / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match="train: got 0, wanted at least one example to train on"):
        load_dataset(folder, classes="dog")
    (folder / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DataError, match="no picture with an annotation that can be used"):
        load_dataset(folder)
