from __future__ import annotations

import zlib
from typing import ClassVar

import numpy
import pytest
import torch

from convscope.data import Batch, Dataset, Labelled, stratified_split
from convscope.errors import ArgumentError


def pictures(count: int, channels: int = 1, height: int = 5, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def split(labels: list[int], classes: tuple[str, ...] = ("a", "b", "c"), channels: int = 1) -> Labelled:
    return Labelled(pictures(len(labels), channels), torch.tensor(labels), classes)


def test_statistics_are_those_of_numpy() -> None:
    train = split([0, 1, 2, 0, 1] * 7, channels=3)
    dataset = Dataset("some", train, split([0, 1], channels=3))
    values = train.images.numpy().astype(numpy.float64) / 255
    assert dataset.mean == pytest.approx(values.mean(axis=(0, 2, 3)), abs=1e-12)
    assert dataset.std == pytest.approx(values.std(axis=(0, 2, 3)), abs=1e-12)


def test_a_constant_channel_is_only_shifted() -> None:
    train = Labelled(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    dataset = Dataset("flat", train, train)
    assert dataset.mean == pytest.approx((0.2,))
    assert dataset.std == (1.0,)
    assert dataset.preprocessing().normalise(train.images).abs().max() < 1e-6


def test_preprocessing_counts_the_models_channels() -> None:
    train = split([0, 1, 2] * 5, channels=3)
    dataset = Dataset("colour", train, train)
    grey = dataset.preprocessing((28, 28), channels=1, fit="pad")
    red, green, blue = dataset.mean
    assert grey.mean[0] == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue, abs=0.5 / 255)
    assert (grey.size, grey.fit) == ((28, 28), "pad")
    assert dataset.preprocessing().size == (5, 7)


def test_restrict_numbers_classes_anew() -> None:
    whole = split([0, 1, 2, 2, 0, 1])
    kept = whole.restrict(["c", "a"])
    assert kept.labels.tolist() == [1, 0, 0, 1]
    assert kept.classes == ("c", "a")
    assert torch.equal(kept.images, whole.images[[0, 2, 3, 4]])
    assert whole.counts() == [2, 2, 2]
    assert repr(whole) == "Labelled(6 pictures of 1×5×7, 3 classes)"


def test_stratified_split_keeps_every_picture_once_and_every_share() -> None:
    whole = split([0] * 10 + [1] * 25 + [2] * 5)
    train, test = stratified_split(whole, 0.2, seed=3)
    assert test.counts() == [2, 5, 1]
    assert train.counts() == [8, 20, 4]
    together = torch.cat([train.images, test.images]).flatten(1).tolist()
    assert sorted(together) == sorted(whole.images.flatten(1).tolist())
    again = stratified_split(whole, 0.2, seed=3)[1]
    assert torch.equal(again.images, test.images)
    other = stratified_split(whole, 0.2, seed=4)[1]
    assert not torch.equal(other.images, test.images)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, "half", float("nan")])
def test_bad_fraction(fraction: float) -> None:
    with pytest.raises(ArgumentError, match=r"test_fraction: got .*, wanted a number between 0 and 1"):
        stratified_split(split([0, 1, 2]), fraction, 0)


def test_fraction_that_leaves_nothing_to_test() -> None:
    with pytest.raises(ArgumentError, match="leaves test examples, of 3 in all"):
        stratified_split(split([0, 1, 2]), 0.2, 0)


def test_from_arrays_takes_the_usual_layouts() -> None:
    labels = [0, 1] * 10
    for shape, wanted in (((20, 6, 9), (1, 6, 9)), ((20, 6, 9, 3), (3, 6, 9)), ((20, 3, 6, 9), (3, 6, 9))):
        images = numpy.arange(numpy.prod(shape), dtype=numpy.int64).reshape(shape).astype(numpy.uint8)
        dataset = Dataset.from_arrays(images, labels)
        assert dataset.shape == wanted
        assert (len(dataset.train), len(dataset.test)) == (16, 4)
        assert dataset.classes == ("0", "1")
    last = numpy.random.default_rng(0).integers(0, 256, (4, 6, 9, 3), dtype=numpy.uint8)
    dataset = Dataset.from_arrays(last, [0, 1, 0, 1], last, [1, 1, 0, 0], classes=["cat", "dog"])
    assert torch.equal(dataset.train.images, torch.from_numpy(last.transpose(0, 3, 1, 2).copy()))
    assert dataset.test.labels.tolist() == [1, 1, 0, 0]


BAD_SPLITS = [
    (pictures(3).float(), torch.tensor([0, 1, 2]), ("a", "b", "c"), "images: got 'float32 .*uint8 tensor of shape"),
    (pictures(3)[0], torch.tensor([0]), ("a",), r"images: got 'uint8 \(1, 5, 7\)'"),
    (pictures(3)[:, :, :0], torch.tensor([0, 1, 2]), ("a", "b", "c"), "at least one pixel"),
    (pictures(3), torch.tensor([0.0, 1, 2]), ("a", "b", "c"), "labels: got 'float32"),
    (pictures(3), torch.tensor([0, 1]), ("a", "b", "c"), "labels: got 2, wanted one for each of the 3 pictures"),
    (pictures(3), torch.tensor([0, 1, 3]), ("a", "b", "c"), "labels: got 3, wanted class numbers 0 … 2"),
    (pictures(3), torch.tensor([0, -1, 2]), ("a", "b", "c"), "labels: got -1, wanted class numbers"),
    (pictures(3), torch.tensor([0, 0, 0]), (), "at least one class name"),
    (pictures(3), torch.tensor([0, 1, 0]), ("a", "a"), "classes: got 'a', wanted every class name once"),
]


@pytest.mark.parametrize(("images", "labels", "classes", "message"), BAD_SPLITS)
def test_bad_split(images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Labelled(images, labels, classes)


def test_parts_must_fit_together() -> None:
    with pytest.raises(ArgumentError, match=r"test: got .*, wanted the classes of train"):
        Dataset("x", split([0, 1]), split([0, 1], classes=("a", "b")))
    with pytest.raises(ArgumentError, match=r"test: got .*, wanted pictures of train's shape"):
        Dataset("x", split([0, 1]), split([0, 1], channels=3))
    with pytest.raises(ArgumentError, match="train: got 0, wanted at least one example"):
        Dataset("x", split([0]).select(torch.tensor([], dtype=torch.int64)), split([0]))


def test_unknown_class() -> None:
    with pytest.raises(ArgumentError, match="classes: got 'd', wanted names among a, b, c"):
        split([0, 1]).restrict(["a", "d"])
    with pytest.raises(ArgumentError, match="each once"):
        split([0, 1]).restrict(["a", "a"])


def test_from_arrays_refuses_floats_and_half_a_test_part() -> None:
    with pytest.raises(ArgumentError, match=r"images: got 'float64 .*Scale pixels to 0 … 255"):
        Dataset.from_arrays(numpy.zeros((4, 5, 5)), [0, 1, 0, 1])
    with pytest.raises(ArgumentError, match=r"test_images: .*test pictures and test labels together"):
        Dataset.from_arrays(pictures(4), [0, 1, 0, 1], pictures(2))
    with pytest.raises(ArgumentError, match="labels: got 'float64"):
        Dataset.from_arrays(pictures(4), numpy.zeros(4))
    with pytest.raises(ArgumentError, match="images: got dtype"):
        Dataset.from_arrays(numpy.array([["a"]]), [0])


class Texts:
    """Another kind of examples, the least there can be."""

    kind: ClassVar[str] = "texts"
    lengths: ClassVar[torch.Tensor | None] = None
    on_disk: ClassVar[bool] = False

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: torch.Tensor) -> Batch:
        return Batch((indices,), None, len(indices), float(len(indices)))

    def select(self, indices: torch.Tensor) -> Texts:
        return Texts(len(indices))

    def weight(self, indices: torch.Tensor) -> float:
        return float(len(indices))

    def fingerprint(self, checksum: int = 0) -> int:
        return checksum * 10 + self.count

    def describe(self) -> dict[str, object]:
        return {"texts": self.count, "language": "en"}


def test_a_data_set_of_another_kind() -> None:
    data = Dataset("few", Texts(3), Texts(2))
    assert data.kind == "texts"
    assert data.describe() == {"train_texts": 3, "test_texts": 2, "language": "en"}
    assert data.fingerprint() == 32


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("classes", "classes"), ("shape", "pictures of one size"), ("mean", "pictures"), ("std", "pictures")],
)
def test_what_a_kind_does_not_have_is_refused_by_naming_the_kind(name: str, wanted: str) -> None:
    data = Dataset("few", Texts(3), Texts(2))
    with pytest.raises(
        ArgumentError, match=f"data: got .*'few', a set of kind 'texts'.*, wanted a data set with {wanted}"
    ):
        getattr(data, name)
    with pytest.raises(ArgumentError, match="wanted a data set with classes to choose among"):
        data.restrict(["a"])
    with pytest.raises(ArgumentError, match="wanted a data set with pictures"):
        data.preprocessing()


def test_both_parts_are_of_one_kind() -> None:
    with pytest.raises(ArgumentError, match="test: got 'texts', wanted examples of train's kind, labelled"):
        Dataset("mixed", split([0, 1, 2]), Texts(3))


def test_a_data_set_describes_and_identifies_itself_as_run_folders_keep_it() -> None:
    data = Dataset("three", split([0, 1, 2, 1]), split([2, 0]))
    assert data.describe() == {"train_images": 4, "test_images": 2, "classes": ["a", "b", "c"]}
    checksum = 0
    for part in (data.train, data.test):
        checksum = zlib.crc32(part.labels.numpy().tobytes(), checksum)
        checksum = zlib.crc32(part.images.numpy().tobytes(), checksum)
    assert data.fingerprint() == checksum
    other = Labelled(data.train.images, torch.tensor([0, 1, 2, 2]), data.train.classes)
    assert Dataset("three", other, data.test).fingerprint() != checksum
