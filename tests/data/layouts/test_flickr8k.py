"""Flickr8k's layout, on a small one that was made."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.data.layouts.test_pascal_voc import picture

from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = []
    for number in range(5):
        picture(tmp_path / "Flicker8k_Dataset" / f"{number}_ab.jpg", value=40 * number)
        lines += [f"{number}_ab.jpg#{which}\tA Dog runs {which} .\n" for which in (1, 0)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(lines))
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("2_ab.jpg\n0_ab.jpg\n1_ab.jpg\n")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("4_ab.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("3_ab.jpg\n4_ab.jpg\n")
    return tmp_path


def test_as_published(folder: Path) -> None:
    data = load_dataset(folder, least=1)
    assert (data.kind, len(data.train), len(data.test)) == ("captions", 3, 1)
    assert data.train.texts[:2] == ("A Dog runs 0 .", "A Dog runs 1 ."), "by their numbers"
    assert data.train.counts.tolist() == [2, 2, 2]
    assert "dog" in data.train.vocabulary.tokens
    assert [round(float(data.train.pictures.picture(place).float().mean())) for place in range(3)] == [80, 0, 40]
    assert len(load_dataset(folder, test="dev").test) == 2
    assert "0" not in load_dataset(folder, least=4).train.vocabulary.tokens


def test_texts_in_a_folder_of_their_own(folder: Path) -> None:
    (folder / "Flickr8k_text").mkdir()
    for path in folder.glob("*.txt"):
        path.rename(folder / "Flickr8k_text" / path.name)
    assert len(load_dataset(folder).train) == 3


def test_what_is_missing_is_left_out_by_its_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "Flicker8k_Dataset" / "5_ab.jpg").write_bytes(b"no picture")
    picture(folder / "Flicker8k_Dataset" / "6_ab.jpg")
    with (folder / "Flickr8k.token.txt").open("a") as file:
        file.write("5_ab.jpg#0\tA cat .\n")
    names = ["2_ab.jpg", "9_ab.jpg", "../Flickr8k.token.txt", "5_ab.jpg", "", "6_ab.jpg"]
    (folder / "Flickr_8k.trainImages.txt").write_text("\n".join(names))
    with caplog.at_level(logging.WARNING, "convscope.data"):
        assert len(load_dataset(folder).train) == 1
    assert "2 missing pictures (line 2: 9_ab.jpg, line 3: ../" in caplog.text
    assert "1 pictures without captions (line 6: 6_ab.jpg)" in caplog.text
    assert "unreadable pictures" in caplog.text
    assert "line 4: 5_ab.jpg" in caplog.text
    (folder / "Flickr_8k.trainImages.txt").write_text("9_ab.jpg\n")
    with pytest.raises(DataError, match=r"trainImages\.txt: no picture that is there and has captions"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"7_ab.jpg A dog .\n", "line 11 is not a picture's name, # and a number"),
        (b"7_ab.jpg#0 A dog .\n", "line 11 is not a picture's name, # and a number"),
        (b"7_ab.jpg#0\t \n", "line 11 has no caption behind its tab"),
        (b"4_ab.jpg#0\tAgain .\n", r"line 11 gives caption 0 of 4_ab\.jpg a second time"),
        (b"7_ab.jpg#0\tA caf\xe9 .\n", "line 11 is not utf-8"),
    ],
)
def test_damaged_lines_are_named(folder: Path, line: bytes, said: str) -> None:
    with (folder / "Flickr8k.token.txt").open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match=said):
        load_dataset(folder)


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="test: got 'val', wanted test or dev"):
        load_dataset(folder, test="val")
    (folder / "Flickr_8k.testImages.txt").unlink()
    with pytest.raises(DataError, match=r"file missing: Flickr_8k\.testImages\.txt"):
        load_dataset(folder)
    (folder / "Flicker8k_Dataset").rename(folder / "elsewhere")
    with pytest.raises(DataError, match="folder missing: Flicker8k_Dataset"):
        load_dataset(folder)
