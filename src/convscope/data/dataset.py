"""What a data set is in memory: uint8 pictures, class numbers, class names, a part for training and one for testing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy
import torch

from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.errors import ArgumentError
from convscope.spec import Fit, Preprocessing


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set. ``train`` and ``test`` have the same class names and the same picture shape."""

    name: str
    train: Labelled
    test: Labelled

    def __post_init__(self) -> None:
        if len(self.train) == 0:
            raise ArgumentError("train", 0, "at least one picture to train on")
        if self.train.classes != self.test.classes:
            raise ArgumentError("test", self.test.classes, f"the classes of train, {self.train.classes}")
        if self.train.shape != self.test.shape:
            raise ArgumentError("test", self.test.shape, f"pictures of train's shape, {self.train.shape}")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        return self.train.shape

    @functools.cached_property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training pictures, pixels taken as 0 … 1."""
        return self._figures[0]

    @functools.cached_property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training pictures, pixels taken as 0 … 1; never 0."""
        return self._figures[1]

    @functools.cached_property
    def _figures(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return _statistics(self.train.images)

    def preprocessing(
        self, size: tuple[int, int] | None = None, channels: int | None = None, fit: Fit = "resize"
    ) -> Preprocessing:
        """How these pictures become the input of a model of ``size`` (height, width) and ``channels``.

        Mean and deviation are those of the training pictures in the model's channels, before resizing or padding.
        """
        from convscope.data.transforms import convert_channels

        channels = channels or self.shape[0]
        mean, std = self.mean, self.std
        if channels != self.shape[0]:
            mean, std = _statistics(convert_channels(self.train.images, channels))
        return Preprocessing(channels, size or self.shape[1:], mean, std, fit)

    def restrict(self, classes: Sequence[str]) -> Dataset:
        """Only the pictures of ``classes``, numbered anew in that order."""
        return Dataset(self.name, self.train.restrict(classes), self.test.restrict(classes))

    @classmethod
    def from_arrays(
        cls,
        images: torch.Tensor | numpy.ndarray,
        labels: torch.Tensor | numpy.ndarray | Sequence[int],
        test_images: torch.Tensor | numpy.ndarray | None = None,
        test_labels: torch.Tensor | numpy.ndarray | Sequence[int] | None = None,
        *,
        classes: Sequence[str] | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset:
        """A data set of pictures in memory.

        ``images`` is uint8, (n, c, h, w), (n, h, w, c) with 1, 3 or 4 channels, or (n, h, w). Without test pictures,
        ``test_fraction`` of every class is set aside for testing, chosen by ``seed``. Without ``classes`` they are
        named by their numbers. Raises ArgumentError for other types, shapes, or labels that do not fit.
        """
        from convscope.data.transforms import as_images

        if (test_images is None) != (test_labels is None):
            raise ArgumentError("test_images", type(test_images).__name__, "test pictures and test labels together")
        pictures, numbers = as_images(images, "images"), _as_labels(labels, "labels")
        tests = None if test_images is None else as_images(test_images, "test_images")
        test_numbers = None if test_labels is None else _as_labels(test_labels, "test_labels")
        if classes is None:
            given = [part for part in (numbers, test_numbers) if part is not None and len(part)]
            highest = max((int(part.max()) for part in given), default=0)
            classes = [str(number) for number in range(highest + 1)]
        names = tuple(classes)
        whole = Labelled(pictures, numbers, names)
        if tests is None or test_numbers is None:
            train, test = stratified_split(whole, test_fraction, seed)
            return cls(name, train, test)
        return cls(name, whole, Labelled(tests, test_numbers, names))


def _statistics(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact mean and standard deviation of each channel, from counts of the 256 grey values, as fractions of 255."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means: list[float] = []
    deviations: list[float] = []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for part in torch.split(images[:, channel], 4096):  # bincount widens to int64: 8 times the part's size
            counts += torch.bincount(part.flatten(), minlength=256).cpu()
        weights = counts / counts.sum()
        mean = float(weights @ values)
        deviation = float(weights @ (values - mean) ** 2) ** 0.5
        means.append(mean)
        deviations.append(deviation if deviation > 1e-6 else 1.0)  # a constant channel is only shifted
    return tuple(means), tuple(deviations)


def _as_labels(labels: torch.Tensor | numpy.ndarray | Sequence[int], argument: str) -> torch.Tensor:
    numbers = labels if isinstance(labels, torch.Tensor) else torch.from_numpy(numpy.asarray(labels).copy())
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool or numbers.ndim != 1:
        raise ArgumentError(argument, _described(numbers), "a list of integers, one a picture")
    return numbers.to(torch.int64)


def _described(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
