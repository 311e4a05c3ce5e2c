"""Layouts of texts: sentences, translations, captions."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest
import torch
from tests.data.layouts.test_pascal_voc import picture

from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError


def test_sentences_of_one_part(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("".join(f"fine word{number}\n\n" for number in range(10)))
    (tmp_path / "bad.txt").write_text("".join(f"poor, word{number}\r\n" for number in range(5)))
    (tmp_path / "README.txt").write_text("not a class")
    data = load_dataset(tmp_path, test_fraction=0.4, seed=1)
    assert (data.kind, data.classes) == ("sentences", ("bad", "good"))
    assert (data.train.counts(), data.test.counts()) == ([3, 6], [2, 4])
    texts = (*data.train.texts, *data.test.texts)
    assert sorted(texts) == sorted([f"fine word{n}" for n in range(10)] + [f"poor, word{n}" for n in range(5)])
    vocabulary = data.train.vocabulary
    assert vocabulary.tokens[4] == "fine"
    assert all(f"word{number}" in vocabulary.tokens for number in range(10)) is False  # those of the test part are not
    assert load_dataset(tmp_path, least=2, cut="spaces").train.vocabulary.tokens[4:6] == ("fine", "poor,")
    assert load_dataset(tmp_path, classes="good,bad").classes == ("good", "bad")
    assert len(load_dataset(tmp_path, most=1).train.vocabulary) == 5


def test_sentences_in_parts(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        (tmp_path / part).mkdir()
        for name in ("a", "b"):
            (tmp_path / part / f"{name}.txt").write_text(f"{part} {name}\n" * count)
    data = load_dataset(tmp_path)
    assert (data.train.counts(), data.test.counts()) == ([3, 3], [2, 2])
    (tmp_path / "test" / "b.txt").write_text("\n")
    with pytest.raises(DataError, match="no sentence of class 'b'"):
        load_dataset(tmp_path)
    (tmp_path / "test" / "b.txt").unlink()
    with pytest.raises(DataError, match=r"no file b\.txt in one of its parts\. There are: a"):
        load_dataset(tmp_path)


def test_an_encoding_that_is_not_the_file_s(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("gut\nschön\n".encode("latin-1") * 5)
    (tmp_path / "b.txt").write_text("ok\n" * 10)
    with pytest.raises(DataError, match=r"a\.txt: line 2 is not utf-8\. Give encoding="):
        load_dataset(tmp_path)
    assert "schön" in load_dataset(tmp_path, encoding="latin-1", test_fraction=0.1).train.texts


def translations(folder: Path, parts: dict[str, dict[str, list[str]]]) -> Path:
    folder.mkdir(exist_ok=True)
    for part, languages in parts.items():
        for language, lines in languages.items():
            content = "".join(f"{line}\n" for line in lines).encode()
            if language == "en":
                (folder / f"{part}.en.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{part}.{language}").write_bytes(content)
    return folder


FEW = {
    "train": {"en": ["a dog", "two cats"], "de": ["ein Hund", "zwei Katzen"]},
    "val": {"en": ["a bird"], "de": ["ein Vogel"]},
}


def test_translations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load_dataset(translations(tmp_path / "few", FEW))
    assert data.kind == "parallel"
    assert (data.train.source_texts, data.train.target_texts) == (("ein Hund", "zwei Katzen"), ("a dog", "two cats"))
    assert data.test.target_texts == ("a bird",)
    assert data.test.target_vocabulary.decode(data.test.target[0]) == "a <unk>"
    other = load_dataset(tmp_path / "few", source="en", target="de", test="train")
    assert other.test.source_texts == ("a dog", "two cats")
    more = {**FEW, "train": {"en": ["a dog", "", "b"], "de": ["ein Hund", "zwei", "c"]}, "test": FEW["val"]}
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(translations(tmp_path / "more", more), source="de")
    assert data.train.target_texts == ("a dog", "b")
    assert "1 pairs with an empty side (line 2)" in caplog.text


def test_translations_that_do_not_fit_together(tmp_path: Path) -> None:
    folder = translations(tmp_path / "few", {**FEW, "test": {"en": ["a"], "de": ["b", "c"]}})
    with pytest.raises(DataError, match=r"test\.en\.gz: 1 lines, but test\.de has 2"):
        load_dataset(folder)
    with pytest.raises(DataError, match=r"file missing: dev\.de\. There are the parts test, train, val"):
        load_dataset(folder, test="dev")
    with pytest.raises(ArgumentError, match="source: got 'fr', wanted a language that train is there in: de, en"):
        load_dataset(folder, source="fr")
    with pytest.raises(ArgumentError, match="target: got 'en', wanted another language than source"):
        load_dataset(folder, source="en", target="en")
    (folder / "train.fr").write_text("un chien\n" * 2)
    with pytest.raises(ArgumentError, match="target: got None, wanted one of de, fr"):
        load_dataset(folder, source="en")
    (folder / "val.en.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match=r"val\.en\.gz: damaged or cut short gzip file"):
        load_dataset(folder, source="en", target="de", test="val")


def test_captions_in_one_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        picture(tmp_path / "images" / f"{number}.png", value=number)
    lines = [f"{number}.png#{k}\tcaption {k} of {number}" for number in range(5) for k in range(1 + number % 2)]
    (tmp_path / "captions.txt").write_text("\n".join([*lines, "9.png\tnot there", "3.png\t ", ""]))
    with caplog.at_level(logging.WARNING, "convscope.data"):
        data = load_dataset(tmp_path, test_fraction=0.4)
    assert (data.kind, len(data.train), len(data.test)) == ("captions", 3, 2)
    assert "1 captions of missing pictures (9.png)" in caplog.text
    assert "1 lines without a caption (3.png)" in caplog.text
    for part in (data.train, data.test):
        batch = part.batch(torch.arange(len(part)))
        for place, owner in enumerate(batch.targets.pictures().tolist()):
            value = int(batch.inputs[0][owner].unique())
            assert part.texts[place].endswith(f" of {value}")
        assert batch.targets.counts.tolist() == [1 + int(row.unique()) % 2 for row in batch.inputs[0]]
    characters = load_dataset(tmp_path, cut="characters")
    assert "c" in characters.train.vocabulary.tokens


def test_captions_as_a_table_in_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        picture(tmp_path / part / "a.jpg")
        (tmp_path / part / "captions.csv").write_text('image,caption\na.jpg,"A dog, running."\na.jpg,plain\n')
    data = load_dataset(tmp_path, longest=15)
    assert data.train.texts == ("A dog, running.", "plain")
    assert data.train.counts.tolist() == [2]
    assert data.train.shape == (3, 10, 15)
    (tmp_path / "test" / "captions.csv").unlink()
    with pytest.raises(DataError, match="train/ has captions, but there is no test/ with captions"):
        load_dataset(tmp_path)
    (tmp_path / "train" / "captions.csv").write_text("image,caption\n../secret.png,no\n")
    (tmp_path / "test" / "captions.csv").write_text("a.jpg,yes\n")
    with pytest.raises(DataError, match=r"captions\.csv: no caption of a picture that is there"):
        load_dataset(tmp_path)
