"""Labels of every kind that NumPy files hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from convscope.data import Dataset
from convscope.data.labels import class_numbers
from convscope.errors import ArgumentError

NUMBERS = [2, 0, 1, 1, 0, 2]
NAMES = ["tulip", "daisy", "rose", "rose", "daisy", "tulip"]  # sorted: daisy, rose, tulip


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS,
        tuple(NUMBERS),
        torch.tensor(NUMBERS),
        torch.tensor(NUMBERS, dtype=torch.uint8),
        *(np.array(NUMBERS, kind) for kind in ("u1", "i2", "<i4", ">i4", ">i8", "<u8", ">u2")),
        np.array([*NUMBERS, *NUMBERS])[::-1][6:][::-1],
    ],
)
def test_numbers(labels: Any) -> None:
    numbers, names = class_numbers({"labels": labels}, None)
    assert numbers[0].tolist() == NUMBERS
    assert numbers[0].dtype == torch.int64
    assert names == ("0", "1", "2")


@pytest.mark.parametrize(
    "labels",
    [NAMES, np.array(NAMES), np.array(NAMES, dtype=object), np.array(NAMES, dtype="S"), np.array(NAMES, ">U5")],
)
def test_names(labels: Any) -> None:
    numbers, names = class_numbers({"labels": labels}, None)
    assert (numbers[0].tolist(), names) == (NUMBERS, ("daisy", "rose", "tulip"))
    numbers, names = class_numbers({"labels": labels}, ["rose", "tulip", "daisy"])
    assert (numbers[0].tolist(), names) == ([1, 2, 0, 0, 2, 1], ("rose", "tulip", "daisy"))
    assert all(type(name) is str for name in names)


def test_names_outside_ascii() -> None:
    for labels in (np.array(["猫", "犬"]), np.array(["猫".encode(), "犬".encode()])):
        assert class_numbers({"labels": labels}, None)[1] == ("犬", "猫")


def test_numbers_that_begin_at_one_leave_no_empty_class() -> None:
    numbers, names = class_numbers({"labels": [1, 2, 10], "test_labels": [3]}, None)
    assert [part.tolist() for part in numbers] == [[0, 1, 9], [2]]
    assert names == tuple(map(str, range(1, 11)))
    dataset = Dataset.from_arrays(np.zeros((20, 4, 4), np.uint8), np.arange(20) % 4 + 1)
    assert dataset.classes == ("1", "2", "3", "4")
    assert dataset.train.counts() == [4] * 4


def test_gaps_inside_stay_and_both_parts_count() -> None:
    assert class_numbers({"labels": [0, 3], "test_labels": [1, 4]}, None)[1] == ("0", "1", "2", "3", "4")
    assert class_numbers({"labels": [0, 1], "test_labels": []}, None)[1] == ("0", "1")
    assert class_numbers({"labels": [1, 2]}, ["a", "b", "c"])[0][0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([-1] * 6, None, "labels: got -1, wanted class numbers from 0 on. -1 often marks"),
        ([0, 1, -1], None, "labels: got -1, wanted class numbers"),
        (
            [0, 10**9],
            None,
            "labels: got 1000000000, wanted class numbers without wide gaps: 1,000,000,001 ",
        ),
        (np.array([0, 2**64 - 1], np.uint64), None, "labels: got 18446744073709551615, wanted class numbers"),
        (["a", "b"], ["a", "c"], "labels: got 'b', wanted names among the classes a, c"),
        ([[0, 1], [1, 0]], None, r"labels: got 'int64 \(2, 2\)', wanted a list of integers or of names"),
        ([0.5, 1], None, "labels: got 'float64"),
        ([True, False], None, "labels: got 'bool"),
        ([1j], None, "labels: got 'complex128"),
        ([None, "a"], None, "labels: got 'object"),
        ([[0], [1, 2]], None, "labels: got 'list', wanted a list of integers"),
        (torch.tensor([1.0], dtype=torch.bfloat16), None, "labels: got 'Tensor', wanted a list of integers"),
        (torch.zeros(2, dtype=torch.int64, device="meta"), None, "labels: got 'Tensor', wanted"),
        (np.array([b"\xff\xfe"]), None, "labels: got .*The names are not UTF-8"),
        (np.array(["2020-01-01"], "M8[D]"), None, "labels: got 'datetime64"),
        (np.zeros(2, [("a", "i4")]), None, "labels: got .*wanted a list of integers"),
    ],
)
def test_what_cannot_be_labels(labels: Any, classes: Sequence[str] | None, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        class_numbers({"labels": labels}, classes)


def test_numbers_and_names_do_not_go_together() -> None:
    with pytest.raises(ArgumentError, match="test_labels: got 'int64 .*', wanted names, as the other labels are"):
        class_numbers({"labels": ["a"], "test_labels": [0]}, None)
