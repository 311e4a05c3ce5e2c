"""rt_polarity and multi30k, on small files in their layouts; the real ones are in the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.data.layouts.test_texts import translations

from convscope.data import load_dataset
from convscope.errors import ArgumentError, DataError


@pytest.mark.parametrize("inner", [".", "rt-polaritydata"])
def test_rt_polarity(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / "rt_polarity" / inner
    folder.mkdir(parents=True)
    praise = "".join(f"a fine film , très bien {n} . \n" for n in range(20))
    (folder / "rt-polarity.pos").write_bytes(praise.encode("latin-1"))
    with pytest.raises(DataError, match=r"file missing: rt-polarity\.neg"):
        load_dataset("rt_polarity", root=tmp_path)
    (folder / "rt-polarity.neg").write_bytes("".join(f"a poor film , {n} . \n" for n in range(10)).encode("latin-1"))
    data = load_dataset("rt_polarity", root=tmp_path)
    assert data.classes == ("negative", "positive")
    assert (data.train.counts(), data.test.counts()) == ([9, 18], [1, 2])
    assert data.train.texts[-1].startswith("a fine film , très bien")
    assert data.train.vocabulary.tokens[4:9] == (",", "a", "film", "bien", "fine")
    few = load_dataset("rt_polarity", root=tmp_path, least=20)
    assert few.train.vocabulary.tokens[4:] == (",", "a", "film")
    spaces = load_dataset("rt_polarity", root=tmp_path, cut="spaces")
    assert spaces.train.vocabulary.tokens[4:9] == (",", ".", "a", "film", "bien")
    assert load_dataset("rt_polarity", root=tmp_path, test_fraction=0.5, seed=3).test.counts() == [5, 10]


def test_multi30k(tmp_path: Path) -> None:
    lines = {"en": ["a dog runs", "a dog sits", "two dogs"], "de": ["ein Hund rennt", "ein Hund sitzt", "zwei Hunde"]}
    french = ["un chien court", "un chien assis", "deux chiens"]
    parts = {part: {**lines, "fr": french} for part in ("train", "val", "test_2016_flickr")}
    translations(tmp_path / "multi30k", parts)
    data = load_dataset("multi30k", root=tmp_path)
    assert data.train.source_texts == tuple(lines["en"])
    assert data.train.target_vocabulary.tokens[4:] == ("Hund", "ein")  # what comes once is unknown
    batch = data.test.batch(torch.tensor([2]))
    assert batch.targets.tolist() == [[1, 1, 3]]
    french_too = load_dataset("multi30k", root=tmp_path, source="de", target="fr", least=1, test="val")
    assert french_too.test.target_texts == tuple(french)
    assert french_too.test.target_vocabulary.decode(french_too.test.target[2]) == "deux chiens"
    with pytest.raises(ArgumentError, match="source: got 'es', wanted a language that train is there in: de, en, fr"):
        load_dataset("multi30k", root=tmp_path, source="es")
