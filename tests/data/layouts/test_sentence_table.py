"""Sentences with their classes in one file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_a_table_with_a_split(tmp_path: Path) -> None:
    text = 'split,Label,Text\ntrain,good,"fine, very\nfine"\ntrain,bad,dull\ntest,bad,awful\nTest,good,great\n'
    data = load_dataset(written(tmp_path, "r.csv", text))
    assert (data.name, data.kind, data.classes) == ("r", "sentences", ("bad", "good"))
    assert data.train.texts == ("dull", "fine, very fine")
    assert data.test.texts == ("awful", "great")
    assert data.test.labels.tolist() == [0, 1]


def test_columns_by_name_and_tabs(tmp_path: Path) -> None:
    rows = "".join(f"a{n}\tx{n % 2}\tb{n}\n" for n in range(10))
    path = written(tmp_path, "r.tsv", f"one\ttwo\tthree\n{rows}")
    data = load_dataset(path, text="three", label="two", test_fraction=0.2)
    assert (data.classes, len(data.train), len(data.test)) == (("x0", "x1"), 8, 2)
    assert all(text.startswith("b") for text in data.train.texts)
    with pytest.raises(ArgumentError, match=r"text: got 'four', wanted a column of r\.tsv: one, two, three"):
        load_dataset(path, text="four", label="two")
    with pytest.raises(
        DataError, match=r"no column text or sentence .* which has one, two, three\. Say which .* text=…"
    ):
        load_dataset(path)


def test_a_class_a_tab_and_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"{'good' if n % 2 else 'bad'}\tword{n}\n" for n in range(8))
    path = written(tmp_path, "r.txt", f"{rows}\ngood\t \nodd\tword\n")
    with caplog.at_level(logging.WARNING):
        data = load_dataset(path, classes="good,bad", test_fraction=0.25)
    assert (data.classes, data.train.counts(), data.test.counts()) == (("good", "bad"), [3, 3], [1, 1])
    assert "1 rows without a sentence (line 10); 1 sentences of other classes (line 11)" in caplog.text
    with pytest.raises(ArgumentError, match=r"label: got 'x', wanted none: r\.txt has no columns"):
        load_dataset(path, label="x")


def test_folds_share_out_all_sentences(tmp_path: Path) -> None:
    path = written(tmp_path, "r.txt", "".join(f"{'ab'[n % 2]}\tword{n}\n" for n in range(26)))
    folds = [load_dataset(path, fold=number, folds=4, seed=3) for number in (1, 2, 3, 4)]
    assert sorted(text for data in folds for text in data.test.texts) == sorted(f"word{n}" for n in range(26))
    for data in folds:
        assert not set(data.train.texts) & set(data.test.texts)
        assert abs(data.test.counts()[0] - data.test.counts()[1]) <= 1
    with pytest.raises(DataError, match="fold: got 5, wanted a part's number, 1 to 4"):
        load_dataset(path, fold=5, folds=4)
    with pytest.raises(DataError, match="folds: got 1, wanted a number of parts ≥ 2"):
        load_dataset(path, fold=1, folds=1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.csv", "text,label\nfine,good\na, b,good\n", "line 3 has 3 cells, the header 2. Put a sentence"),
        ("r.csv", 'text,label\n"fine,good\n', "line 2: unexpected end of data"),
        ("r.csv", "", "in its first line, which has nothing"),
        ("r.csv", "text,label,split\nfine,good,later\n", "line 2: split 'later', wanted one of train, test"),
        ("r.csv", "text,label\nfine,good\nnice,good\n", "sentences of 1 classes (good), wanted at least two"),
        ("r.txt", "good\tfine\nfine\n", "line 2 has no tab between class and sentence"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(written(tmp_path, name, text))
    assert said in str(caught.value)


def test_another_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "r.txt", "gut\tschön\nschlecht\töde\n" * 5, "latin-1")
    with pytest.raises(DataError, match=r"r\.txt: line 1 is not utf-8"):
        load_dataset(path)
    assert "schön" in load_dataset(path, encoding="latin-1").train.texts
