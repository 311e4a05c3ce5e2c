"""What every data set of the catalogue must keep; one is enrolled by ``register`` in ``convscope.data.sources``.

Where the files of a set are at hand (``CONVSCOPE_DATA``), it is loaded and must be what the training loop asks for;
elsewhere that test skips and says so.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from convscope.data import Batch, Dataset, Examples, is_present, list_datasets, load_dataset
from convscope.data.catalog import LAYOUTS, SOURCES
from convscope.errors import ArgumentError, DataError

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
DATA = os.environ.get("CONVSCOPE_DATA")
KINDS = ("labelled", "boxes", "maps", "pairs", "sentences", "captions", "parallel", "lines")


def alike(one: Batch, other: Batch) -> bool:
    return (one.examples, one.weight) == (other.examples, other.weight) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True)
    )


@pytest.mark.parametrize("name", list_datasets())
class TestEveryDataset:
    def test_its_card_is_complete(self, name: str) -> None:
        card = SOURCES[name].card
        assert all((card.title, card.source, card.files))
        assert 1900 < card.year < 2100
        assert card.shape is None or (len(card.shape) == 3 and min(card.shape) > 0)
        assert min(card.train, card.test, card.classes) >= 0
        assert card.kind in KINDS
        assert card.classes > 1 or card.kind in ("captions", "parallel", "lines")

    def test_its_row_is_in_the_page_with_its_options(self, name: str) -> None:
        row = re.search(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
        assert row is not None
        options = SOURCES[name].option_names()
        if "folder" not in row[0]:  # "as a picture folder": those are in a table of their own
            assert [option for option in options if f"`{option}`" not in row[0] and f"`{option}=" not in row[0]] == []

    def test_what_is_downloaded_is_checked(self, name: str) -> None:
        for remote in SOURCES[name].remotes:
            assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|", remote.checksum), remote.name
            assert all(url.startswith("http") for url in (*remote.urls, *([remote.page] if remote.page else [])))
            assert remote.checksum or not remote.urls

    def test_a_missing_folder_is_refused_by_name(self, name: str, tmp_path: Path) -> None:
        if not SOURCES[name].remotes and is_present(name, tmp_path):
            return  # nothing is needed, or the loader alone can tell: ``test_it_is_what_the_loop_asks_for``
        assert not is_present(name, tmp_path)
        with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
            load_dataset(name, root=tmp_path, download=False)
        assert not (tmp_path / name).exists()

    def test_an_unknown_option_is_refused_by_name(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=f"no_such: .*wanted an option of {name}"):
            load_dataset(name, root=tmp_path, no_such=1)

    def test_it_is_what_the_loop_asks_for(self, name: str) -> None:
        if SOURCES[name].remotes and not (DATA and is_present(name, DATA)):
            pytest.skip(f"{name} is not in CONVSCOPE_DATA")
        data: Dataset[Any] = load_dataset(name, root=DATA, download=False)
        card = SOURCES[name].card
        assert (data.name, data.kind) == (name, card.kind)
        for part, promised in ((data.train, card.train), (data.test, card.test)):
            check_examples(part)
            assert promised in (0, len(part))
        if hasattr(data.train, "classes"):
            assert card.classes in (0, len(data.classes))
        if card.shape is not None:
            assert data.shape == card.shape
        assert json.loads(json.dumps(data.describe()))
        assert data.fingerprint() == load_dataset(name, root=DATA, download=False).fingerprint()


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_a_layout_says_what_it_looks_like_and_takes_no_empty_folder(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    assert layout.looks
    assert layout.load.__doc__
    assert layout.last or not layout.recognises(tmp_path)
    assert not layout.recognises(tmp_path / "gone")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "gone"))):  # what a source of this layout relies on
        layout.load(tmp_path / "gone")
    assert f"`{name}`" in PAGE or layout.last or name in ("npz", "parquet")


def check_examples(examples: Examples) -> None:
    """The Batch contract, on a few examples far apart."""
    assert isinstance(examples, Examples)
    count = len(examples)
    places = torch.tensor([count - 1, 0, count // 2, 0])
    batch = examples.batch(places)
    assert batch.examples == 4
    assert all(len(tensor) == 4 for tensor in batch.inputs)
    assert batch.weight == examples.weight(places)
    assert alike(batch, examples.batch(places))
    assert alike(batch.map(lambda tensor: tensor), batch)
    assert examples.lengths is None or examples.lengths.shape == (count,)
    selected = examples.select(places)
    assert len(selected) == 4
    assert alike(selected.batch(torch.arange(4)), batch)
    assert selected.fingerprint() != examples.select(places.flip(0)).fingerprint()


def test_a_broken_contract_is_noticed() -> None:
    data = load_dataset("digits")

    class Shuffled(type(data.train)):  # type: ignore[misc]
        def select(self, indices: torch.Tensor) -> Any:
            return super().select(indices.flip(0))

    fields = {name: getattr(data.train, name) for name in ("images", "labels", "classes")}
    check_examples(data.train)
    with pytest.raises(AssertionError):
        check_examples(Shuffled(**fields))
