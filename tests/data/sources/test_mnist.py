from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest
import torch

from convscope.data import is_present, load_dataset
from convscope.errors import DataError


def idx(values: torch.Tensor) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.numpy().tobytes()


def published(
    folder: Path, mark: str = "-", packed: bool = True, train: int = 30, test: int = 20
) -> dict[str, torch.Tensor]:
    """The four files, of small random content."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    content: dict[str, torch.Tensor] = {}
    for part, count in (("train", train), ("t10k", test)):
        content[f"{part}-images"] = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
        content[f"{part}-labels"] = (torch.arange(count) % 10).to(torch.uint8)
    for stem, values in content.items():
        name = f"{stem}{mark}idx{values.ndim}-ubyte"
        path = folder / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return content


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_published_spellings(tmp_path: Path, name: str, mark: str, packed: bool) -> None:
    content = published(tmp_path / name, mark, packed)
    assert is_present(name, tmp_path)
    dataset = load_dataset(name, root=tmp_path)
    assert torch.equal(dataset.train.images[:, 0], content["train-images"])
    assert torch.equal(dataset.test.labels, content["t10k-labels"].long())
    assert dataset.classes[9] == ("9" if name == "mnist" else "Ankle boot")


def test_pictures_without_labels_and_labels_out_of_range(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    published(folder, packed=False)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(torch.zeros(29, dtype=torch.uint8)))
    with pytest.raises(DataError, match="labels-idx1-ubyte: its header says 29 items, wanted 30"):
        load_dataset("mnist", root=tmp_path)
    wrong = torch.zeros(30, dtype=torch.uint8)
    wrong[7] = 11
    labels.write_bytes(idx(wrong))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: label 11 at place 7, wanted 0 … 9"):
        load_dataset("mnist", root=tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match=r"mnist is not complete .*Put train-labels-idx1-ubyte.gz into the folder"):
        load_dataset("mnist", root=tmp_path)


def test_a_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    published(folder)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: damaged or cut short gzip file .*Fetch the file"):
        load_dataset("mnist", root=tmp_path)
    assert path.stat().st_size == 500


def test_empty_files(tmp_path: Path) -> None:
    published(tmp_path / "mnist", train=0)
    with pytest.raises(DataError, match="mnist: train: got 0, wanted at least one example to train on"):
        load_dataset("mnist", root=tmp_path)


def test_what_was_gzipped_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mnist"
    published(folder)
    first = load_dataset("mnist", tmp_path)

    def refuse(path: Path, dims: int) -> torch.Tensor:
        raise AssertionError(f"{path} is unpacked again")

    with monkeypatch.context() as patch:
        patch.setattr("convscope.data.layouts.idx.read_idx", refuse)
        again = load_dataset("mnist", tmp_path)
    assert torch.equal(again.train.images, first.train.images)
    assert torch.equal(again.test.labels, first.test.labels)
    (copy,) = (folder / ".convscope").iterdir()
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(torch.full((30,), 9, dtype=torch.uint8))))
    os.utime(labels, ns=(1, 1))
    assert load_dataset("mnist", tmp_path).train.labels.tolist() == [9] * 30, "a changed file is unpacked anew"
    assert not copy.exists()


def test_torchvision_s_folders(tmp_path: Path) -> None:
    """By a path to the root, to its folder, to the files, and by name; what lies there says which classes."""
    content = published(tmp_path / "root" / "FashionMNIST" / "raw", packed=False)
    for path in ("root", "root/FashionMNIST", "root/FashionMNIST/raw"):
        dataset = load_dataset(tmp_path / path)
        assert torch.equal(dataset.train.images[:, 0], content["train-images"])
        assert dataset.classes[9] == "Ankle boot"
    (tmp_path / "fashion_mnist").symlink_to(tmp_path / "root")
    assert is_present("fashion_mnist", tmp_path)
    assert load_dataset("fashion_mnist", root=tmp_path, download=False).name == "fashion_mnist"


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    published(tmp_path / "letters", packed=True)
    labels = (torch.arange(30) % 3 + 1).to(torch.uint8)
    (tmp_path / "letters" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "letters" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:20])))
    dataset = load_dataset(tmp_path / "letters")
    assert (dataset.name, dataset.classes) == ("letters", ("1", "2", "3"))
    assert dataset.train.labels[:4].tolist() == [0, 1, 2, 0]
    (tmp_path / "letters" / "classes.txt").write_text("nought\na\nb\nc\n")
    assert load_dataset(tmp_path / "letters").train.labels[:4].tolist() == [1, 2, 3, 1]
    (tmp_path / "letters" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"letters: file missing: t10k-images-idx3-ubyte"):
        load_dataset(tmp_path / "letters")
