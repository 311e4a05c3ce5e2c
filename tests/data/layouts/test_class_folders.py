from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

from convscope.data import LabelledOnDisk, keeping, load_dataset, shaping
from convscope.data.picture_stores import PictureFiles, PixelFile
from convscope.errors import ArgumentError, DataError


def fill(
    folder: Path, counts: dict[str, int], size: tuple[int, int] = (6, 8), channels: int = 3, suffix: str = "png"
) -> Path:
    """``counts`` pictures of each class, all pixels of a picture alike: class·40 + number."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            shape = size if channels == 1 else (*size, 3)
            pixels = numpy.full(shape, number * 40 + place, dtype=numpy.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place}.{suffix}")
    return folder


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    fill(tmp_path / "animals", {"cat": 10, "dog": 5})
    (tmp_path / "animals" / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "animals" / ".git").mkdir()
    dataset = load_dataset(tmp_path / "animals")
    assert dataset.name == "animals"
    assert dataset.classes == ("cat", "dog")
    assert dataset.shape == (3, 6, 8)
    assert (dataset.train.counts(), dataset.test.counts()) == ([8, 4], [2, 1])
    for part in (dataset.train, dataset.test):
        assert torch.equal(part.images[:, 0, 0, 0].long() // 40, part.labels)
    by_name = load_dataset("animals", root=tmp_path)
    assert torch.equal(by_name.train.images, dataset.train.images)


def test_train_and_test_folders(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 3, "dog": 4})
    fill(tmp_path / "val", {"cat": 1, "dog": 2})
    dataset = load_dataset(tmp_path)
    assert (dataset.train.counts(), dataset.test.counts()) == ([3, 4], [1, 2])
    (tmp_path / "val" / "cat" / "0.png").unlink()
    (tmp_path / "val" / "cat").rmdir()
    assert load_dataset(tmp_path).test.counts() == [0, 2]
    (tmp_path / "val" / "horse").mkdir()
    with pytest.raises(DataError, match="horse: a class that the train folder does not have"):
        load_dataset(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, {"plane": 5, "train": 5})
    assert load_dataset(tmp_path).classes == ("plane", "train")


def test_grey_pgm_files(tmp_path: Path) -> None:
    fill(tmp_path, {"s1": 5, "s2": 5}, channels=1, suffix="pgm")
    assert load_dataset(tmp_path).shape == (1, 6, 8)
    assert load_dataset(tmp_path, channels=3).shape == (3, 6, 8)


def test_grey_among_colour(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5, "b": 5})
    fill(tmp_path, {"b": 1}, channels=1)
    assert load_dataset(tmp_path).shape == (3, 6, 8)
    assert load_dataset(tmp_path, channels=1).shape == (1, 6, 8)


def test_sizes_that_differ_get_one_size(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5}, size=(10, 20))
    fill(tmp_path / "more", {"b": 5}, size=(30, 16))
    (tmp_path / "more" / "b").rename(tmp_path / "b")
    (tmp_path / "more").rmdir()
    assert load_dataset(tmp_path).shape == (3, 20, 18)  # the medians
    assert load_dataset(tmp_path, size=12).shape == (3, 12, 12)
    padded = load_dataset(tmp_path, size=(30, 30), fit="pad", train_per_class=1, test_per_class=4)
    assert padded.test.images[:4, :, :10].max() == 0
    assert load_dataset(tmp_path, size=(9, 7), fit="crop").shape == (3, 9, 7)


def test_counts_for_each_class_are_drawn_by_seed(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 12, "b": 30, "c": 12})
    first = load_dataset(tmp_path, train_per_class=5, test_per_class=7, seed=1)
    assert (first.train.counts(), first.test.counts()) == ([5, 5, 5], [7, 7, 7])
    drawn = torch.cat([first.train.images, first.test.images])[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 36
    again = load_dataset(tmp_path, train_per_class=5, test_per_class=7, seed=1)
    assert torch.equal(first.train.images, again.train.images)
    other = load_dataset(tmp_path, train_per_class=5, test_per_class=7, seed=2)
    assert not torch.equal(first.train.images, other.train.images)
    with pytest.raises(ArgumentError, match=r"train_per_class: got 6, .*at most the 12 pictures of class 'a'"):
        load_dataset(tmp_path, train_per_class=6, test_per_class=7)
    with pytest.raises(ArgumentError, match="test_per_class: got None, wanted an integer ≥ 1; train_per_class and"):
        load_dataset(tmp_path, train_per_class=6)


def test_classes_in_the_order_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5, "b": 5, "c": 5})
    dataset = load_dataset(tmp_path, classes="c, a")
    assert dataset.classes == ("c", "a")
    assert set((dataset.train.images[:, 0, 0, 0] // 40).tolist()) == {2, 0}
    with pytest.raises(ArgumentError, match=r"classes: got 'z', wanted folders in .*: a, b, c"):
        load_dataset(tmp_path, classes=["a", "z"])
    with pytest.raises(ArgumentError, match="each once"):
        load_dataset(tmp_path, classes=["a", "a"])


def test_folders_that_are_laid_out_wrongly(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty: no class folders with pictures"):
        load_dataset(tmp_path)
    fill(tmp_path, {"cat": 5})
    with pytest.raises(DataError, match=r"only one class folder, cat\. Perhaps .*cat is meant"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="5 pictures but no class folders"):
        load_dataset(tmp_path / "cat")
    fill(tmp_path, {"cat": 5, "dog": 5})
    Image.new("L", (4, 4)).save(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"pictures beside class folders: stray\.png beside cat"):
        load_dataset(tmp_path)
    (tmp_path / "stray.png").unlink()
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match=r"emu: no pictures in this class folder\. Remove the folder or fill it"):
        load_dataset(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "emu" / "cat")
    with pytest.raises(DataError, match="Pictures in folders below it are not looked at"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"gone: no such file or folder\. Data sets known by name: .*mnist"):
        load_dataset(tmp_path / "gone")


def test_an_unreadable_picture_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    bad = tmp_path / "dog" / "3.png"
    bad.write_bytes(bad.read_bytes()[:50])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"dog/3\.png: damaged or cut short picture"):
        load_dataset(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_too_much_for_the_memory_is_refused_before_decoding_where_it_must_be_in_memory(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    with pytest.raises(
        DataError,
        match=r"10 pictures of 4000×4000 would take 0\.4 GiB of memory, more than memory_limit.*or in_memory=False",
    ):
        load_dataset(tmp_path, size=4000, memory_limit=2**28, in_memory=True)


def test_too_much_for_the_memory_is_read_while_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    dataset = load_dataset(tmp_path, size=300, memory_limit=2**20)
    assert dataset.train.on_disk
    assert dataset.test.on_disk
    assert isinstance(dataset.train.pictures, PictureFiles)
    said = (
        "10 pictures of 300×300 would take 0.0 GiB of memory, more than memory_limit = 0.0 GiB; its pictures are read"
    )
    assert said in caplog.text
    wanted = load_dataset(tmp_path, size=300, in_memory=True)
    for part, other in ((dataset.train, wanted.train), (dataset.test, wanted.test)):
        everything = torch.arange(len(other))
        assert torch.equal(part.batch(everything).inputs[0], other.images)
        assert torch.equal(part.labels, other.labels)
    assert (dataset.fingerprint(), dataset.mean) == (wanted.fingerprint(), wanted.mean)


def test_small_pictures_on_disk_are_decoded_once_into_a_file_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "set", {"cat": 5, "dog": 5})
    wanted = load_dataset(tmp_path / "set")
    dataset = load_dataset(tmp_path / "set", in_memory=False)
    assert isinstance(dataset.train, LabelledOnDisk)
    assert isinstance(dataset.train.pictures, PixelFile)
    assert torch.equal(dataset.train.in_memory().images, wanted.train.images)
    assert torch.equal(dataset.test.in_memory().labels, wanted.test.labels)
    assert caplog.text == ""  # it was asked for
    (copy,) = (tmp_path / "set" / ".convscope").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(shaping, "load_picture", lambda path: pytest.fail("decoded again"))
        assert torch.equal(load_dataset(tmp_path / "set", in_memory=False).test.in_memory().images, wanted.test.images)
    copy.write_bytes(copy.read_bytes()[:-200])
    assert torch.equal(load_dataset(tmp_path / "set", in_memory=False).test.in_memory().images, wanted.test.images)
    assert "damaged copy of decoded pictures is made anew (cut short)" in caplog.text


def test_without_room_on_the_disk_files_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    monkeypatch.setattr("convscope.data.decoded.shutil.disk_usage", lambda path: SimpleNamespace(free=2**29))
    dataset = load_dataset(tmp_path, in_memory=False)
    assert isinstance(dataset.train.pictures, PictureFiles)
    assert "could not be kept" in caplog.text
    assert "0.5 GiB free, 1.0 needed" in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".part")]


def test_bad_options(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    for options, message in (
        ({"fit": "zoom"}, "fit: got 'zoom', wanted one of resize, pad, crop"),
        ({"channels": 2}, r"channels: got 2, wanted 1 \(grey\) or 3 \(colour\)"),
        ({"size": 0}, "size: got 0, wanted an integer ≥ 1"),
        ({"test_fraction": 2}, "test_fraction: got 2"),
        ({"clases": "cat"}, r"clases: got 'cat', wanted an option of .*Did you mean 'classes'\?"),
    ):
        with pytest.raises((ArgumentError, DataError), match=message):
            load_dataset(tmp_path, **options)


def test_many_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "set", {"cat": 5, "dog": 5})
    monkeypatch.setattr(keeping, "WORTH_KEEPING", 10)
    first = load_dataset(tmp_path / "set")
    assert len(list((tmp_path / "set" / ".convscope").iterdir())) == 1
    monkeypatch.setattr(shaping, "load_picture", lambda path: pytest.fail("decoded again"))
    assert torch.equal(load_dataset(tmp_path / "set").train.images, first.train.images)
    monkeypatch.undo()
    monkeypatch.setattr(keeping, "WORTH_KEEPING", 10)
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "set" / "cat" / "0.png")
    assert int(load_dataset(tmp_path / "set").train.images.max()) == 255
    assert len(list((tmp_path / "set" / ".convscope").iterdir())) == 1  # the old copy is gone


def test_names_that_are_no_utf8_become_text(tmp_path: Path) -> None:
    whole = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fleurs s\xe9ch\xe9es"))
    for name in (b"caf\xe9", "th\u00e9".encode()):
        folder = Path(os.fsdecode(os.fsencode(whole) + b"/" + name))
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("L", (6, 5), number * 20).save(folder / f"{number}.png")
    dataset = load_dataset(whole)
    assert dataset.classes == ("caf\\xe9", "thé")
    assert dataset.name == "fleurs s\\xe9ch\\xe9es"
    assert all(name.encode() for name in (*dataset.classes, dataset.name))  # what can be written anywhere
    assert load_dataset(whole, classes=["thé", "caf\\xe9"]).classes == ("thé", "caf\\xe9")
    drawn = load_dataset(whole, train_per_class=2, test_per_class=1)
    assert drawn.train.counts() == [2, 2]
    with pytest.raises(ArgumentError, match=r"classes: got 'café', wanted folders in .*: caf\\xe9, thé"):
        load_dataset(whole, classes=["café", "thé"])


def test_decoded_copies_of_such_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WORTH_KEEPING", 1)
    for name in (b"a\xff", b"b"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        for number in range(3):
            Image.new("L", (6, 5), number * 20).save(os.fsencode(folder) + b"/%d.png" % number, "PNG")
    first = load_dataset(tmp_path)
    assert list((tmp_path / ".convscope").glob("*.safetensors"))
    assert torch.equal(load_dataset(tmp_path).train.images, first.train.images)
