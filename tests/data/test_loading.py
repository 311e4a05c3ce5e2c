from __future__ import annotations

from pathlib import Path

import pytest
import torch

import convscope.data
from convscope.data import data_root, is_present, load_dataset
from convscope.errors import ArgumentError, DataError, UnknownNameError


def test_digits_need_no_files(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits", root=tmp_path / "none")
    assert (dataset.shape, len(dataset.train), len(dataset.test)) == ((1, 8, 8), 1438, 359)
    assert dataset.classes == tuple("0123456789")
    levels = (torch.cat([dataset.train.images, dataset.test.images]).double() * 16 / 255).round()  # the way back
    ours = sorted(
        zip(levels.flatten(1).tolist(), dataset.train.labels.tolist() + dataset.test.labels.tolist(), strict=True)
    )
    bunch = load_digits()
    assert ours == sorted(zip(bunch.data.tolist(), bunch.target.tolist(), strict=True))
    assert torch.equal(load_dataset("digits").test.images, dataset.test.images)
    assert max(dataset.test.counts()) - min(dataset.test.counts()) <= 2
    assert is_present("digits", tmp_path)
    assert not (tmp_path / "none").exists()


def test_unknown_names_offer_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"data: got 'minst', wanted one of .*Did you mean 'mnist'"):
        load_dataset("minst")
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10'"):
        load_dataset("cifar-10")


def test_options_are_checked_before_any_file_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"clases: .*wanted an option of stl10: classes\. Did you mean 'classes'"):
        load_dataset("stl10", root=tmp_path, clases="cat")
    with pytest.raises(ArgumentError, match="size: got 3, wanted an option of fashion_mnist: it has none"):
        load_dataset("fashion_mnist", root=tmp_path, size=3)


def test_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "env"
    monkeypatch.delenv("CONVSCOPE_DATA")
    assert data_root() == Path.home() / ".cache" / "convscope"
    assert data_root("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz"),
        ("fashion_mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("stl10", "stl10_binary.tar.gz"),
        ("caltech101", "101_ObjectCategories.tar.gz"),
    ],
)
def test_missing_files_say_what_to_put_where(tmp_path: Path, name: str, files: str) -> None:
    folder = tmp_path / name
    with pytest.raises(
        DataError,
        match=rf"{folder}: {name} is not complete .*Put {files}.* into the folder {folder}; published at http",
    ):
        load_dataset(name, root=tmp_path)
    assert not folder.exists()
    assert not is_present(name, tmp_path)


def test_a_layout_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n" * 5)
    (tmp_path / "b.txt").write_text("two\n" * 5)
    for name in ("train.en", "train.de", "test.en", "test.de"):
        (tmp_path / name).write_text("one\n")
    with pytest.raises(DataError, match="laid out as parallel and as sentences.*layout='parallel'"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, layout="parallel").kind == "parallel"
    assert load_dataset(tmp_path, layout="sentences").kind == "sentences"
    with pytest.raises(UnknownNameError, match="layout: got 'paralel', wanted one of .*Did you mean 'parallel'"):
        load_dataset(tmp_path, layout="paralel")
    with pytest.raises(ArgumentError, match="layout: got 'npz', wanted none: mnist is known by name"):
        load_dataset("mnist", layout="npz")


def test_public_names() -> None:
    for name in convscope.data.__all__:
        assert hasattr(convscope.data, name)
