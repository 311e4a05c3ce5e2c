from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.layouts.test_pascal_voc import picture

from convscope.data import load_dataset
from convscope.errors import DataError

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": 20, "width": 30},
        {"id": 3, "file_name": "a.png"},
        {"id": 9, "file_name": "c.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {"image_id": 3, "category_id": 18, "bbox": [1, 2.5, 10, 5]},
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        {"image_id": 3, "category_id": 2, "bbox": [4, 4, 2, 3]},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "bicycle"}],
}


def write(path: Path, content: dict[str, Any], pictures: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for number, each in enumerate(content["images"]):
        picture(pictures / each["file_name"], value=10 * number)


def check(data: Any) -> None:
    assert data.kind == "boxes"
    assert data.classes == ("bicycle", "dog")
    batch = data.train.batch(torch.arange(3))
    assert [row.unique().tolist() for row in batch.inputs[0]] == [[0], [10], [20]]  # in the file's order
    assert batch.targets.counts.tolist() == [1, 2, 0]
    assert batch.targets.boxes.tolist() == [[0, 0, 30, 20], [1, 2.5, 11, 7.5], [4, 4, 6, 7]]
    assert batch.targets.labels.tolist() == [0, 1, 0]
    assert batch.targets.difficult.tolist() == [True, False, False]


def test_as_published(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        write(tmp_path / "annotations" / f"instances_{part}.json", CONTENT, tmp_path / part)
        (tmp_path / "annotations" / f"captions_{part}.json").write_text("{}")
    data = load_dataset(tmp_path)
    check(data)
    assert len(data.test) == 3


def test_files_beside_their_pictures(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write(tmp_path / part / "_annotations.coco.json", CONTENT, tmp_path / part)
    check(load_dataset(tmp_path))


@pytest.mark.parametrize("name", ["annotations.json", "_annotations.coco.json"])
def test_a_folder_with_all_in_it(name: str, tmp_path: Path) -> None:
    """What is divided is as of the file by itself."""
    content = copy.deepcopy(CONTENT)
    content["images"] = [{"id": number, "file_name": f"{number}.png"} for number in range(10)]
    write(tmp_path / name, content, tmp_path)
    data, alone = load_dataset(tmp_path), load_dataset(tmp_path / name)
    assert (data.kind, len(data.train), len(data.test)) == ("boxes", 8, 2)
    assert torch.equal(data.train.boxes.values, alone.train.boxes.values)


def test_one_file_is_divided(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"] = [{"id": number, "file_name": f"{number}.png"} for number in range(10)]
    write(tmp_path / "all.json", content, tmp_path / "images")
    data = load_dataset(tmp_path / "all.json", test_fraction=0.4)
    assert (len(data.train), len(data.test)) == (6, 4)
    moved = tmp_path / "elsewhere"
    (tmp_path / "images").rename(moved)
    assert load_dataset(tmp_path / "all.json", images=moved, test_fraction=0.4).fingerprint() == data.fingerprint()
    with pytest.raises(DataError, match="no picture with an annotation that can be used"):
        load_dataset(tmp_path / "all.json")


def test_what_cannot_be_used_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"] += [
        {"image_id": 99, "category_id": 2, "bbox": [0, 0, 1, 1]},
        {"image_id": 3, "category_id": 99, "bbox": [0, 0, 1, 1]},
        {"image_id": 3, "category_id": 2},
        {"image_id": 3, "category_id": 2, "bbox": [1, 1, 0, 5]},
    ]
    write(tmp_path / "train" / "_annotations.coco.json", content, tmp_path / "train")
    write(tmp_path / "test" / "_annotations.coco.json", CONTENT, tmp_path / "test")
    content["images"].append({"file_name": "d.png"})
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(tmp_path)
    assert data.train.left_out == {
        "pictures without id or file name": 1,
        "annotations without a known picture, category or box": 3,
        "boxes without area": 1,
    }
    assert len(caplog.records) == 1
    check(data)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": None}, "not a COCO file: wanted lists of images, annotations, categories"),
        ({"categories": [{"id": 1}]}, "a category without id or name"),
        ({"categories": []}, "no categories"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two of one name"),
    ],
)
def test_files_that_are_not_coco(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    write(tmp_path / "a.json", CONTENT, tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({**CONTENT, **change}))
    with pytest.raises(DataError, match=rf"a\.json: .*{problem}"):
        load_dataset(tmp_path / "a.json")


def test_a_file_that_is_not_json_and_parts_that_do_not_agree(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        load_dataset(tmp_path / "a.json")
    write(tmp_path / "train" / "_annotations.coco.json", CONTENT, tmp_path / "train")
    other = {**CONTENT, "categories": CONTENT["categories"][:1]}
    write(tmp_path / "test" / "_annotations.coco.json", other, tmp_path / "test")
    with pytest.raises(DataError, match="its categories are not those of the training file"):
        load_dataset(tmp_path)
