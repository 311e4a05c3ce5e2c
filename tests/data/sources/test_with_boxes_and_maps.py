"""bccd, voc2007, voc2012 and camvid, on small files in their layouts; the real ones are in the contract tests."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from tests.data.layouts.test_maps import place
from tests.data.layouts.test_pascal_voc import voc

from convscope.data import load_dataset
from convscope.errors import DataError


def test_bccd_has_its_classes_in_its_own_order(tmp_path: Path) -> None:
    things = {
        "BloodImage_00000": [("WBC", (260.0, 177.0, 491.0, 376.0)), ("Platelets", (1.0, 1.0, 1.0, 1.0))],
        "BloodImage_00001": [("RBC", (1.0, 1.0, 9.0, 9.0))],
    }
    voc(tmp_path / "bccd", things, {"trainval": ["BloodImage_00000"], "test": ["BloodImage_00001"]})
    for stem in things:
        path = tmp_path / "bccd" / "Annotations" / f"{stem}.xml"
        path.write_text(path.read_text().replace("<width>30</width><height>20</height>", ""))
    data = load_dataset("bccd", root=tmp_path)
    assert data.classes == ("RBC", "WBC", "Platelets")
    assert data.train.counts() == [0, 0, 0]
    assert data.train.left_out == {"boxes outside their picture": 1, "boxes without area": 1}
    assert data.test.batch(torch.tensor([0])).targets.boxes.tolist() == [[0, 0, 9, 9]]


@pytest.mark.parametrize("inner", [".", "VOC2007", "VOCdevkit/VOC2007"])
def test_voc2007_wherever_it_was_unpacked(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / "voc2007" / inner
    folder.mkdir(parents=True)
    voc(folder, {"000001": [("dog", (1.0, 1.0, 9.0, 9.0))], "000005": [("chair", (2.0, 2.0, 9.0, 9.0))]})
    with pytest.raises(DataError, match="voc2007 is not complete"):
        load_dataset("voc2007", root=tmp_path)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("000001\n")
    (lists / "test.txt").write_text("000005\n")
    data = load_dataset("voc2007", root=tmp_path)
    assert len(data.classes) == 20
    assert data.classes[int(data.train.labels[0])] == "dog"
    assert data.classes[int(data.test.labels[0])] == "chair"


def test_voc2012_is_tested_with_val(tmp_path: Path) -> None:
    things = {"2008_000001": [("dog", (1.0, 1.0, 9.0, 9.0))], "2008_000002": [("cat", (2.0, 2.0, 9.0, 9.0))]}
    (tmp_path / "voc2012").mkdir()
    voc(tmp_path / "voc2012", things, {"train": ["2008_000001"], "val": ["2008_000002"], "trainval": list(things)})
    data = load_dataset("voc2012", root=tmp_path)
    assert (len(data.train), len(data.test)) == (1, 1)


def test_camvid_ignores_what_has_no_class(tmp_path: Path) -> None:
    values = numpy.arange(24).reshape(4, 6) % 12
    for part in ("train", "val", "test"):
        place(tmp_path / "camvid" / part, "0001TP_006690", values)
    data = load_dataset("camvid", root=tmp_path)
    assert (len(data.classes), data.classes[3], data.train.ignored) == (11, "road", 11)
    assert data.train.batch(torch.tensor([0])).targets[0].tolist() == values.tolist()
    assert data.train.counts() == [2] * 11
    assert data.train.palette is not None
    assert load_dataset("camvid", root=tmp_path, classes="car").train.counts() == [2]
    place(tmp_path / "camvid" / "train", "0001TP_006690", values + 1)
    with pytest.raises(DataError, match=r"0001TP_006690\.png: a pixel of value 12, wanted class numbers 0 … 10, or 11"):
        load_dataset("camvid", root=tmp_path)
