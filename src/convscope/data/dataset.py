"""A data set: a part to train on and a part to test on, both of one kind of examples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Generic, Protocol, cast, runtime_checkable

import numpy
import torch
from typing_extensions import TypeVar

from convscope.data.examples import Examples
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.labels import Labels, class_numbers
from convscope.errors import ArgumentError
from convscope.spec import Fit, Preprocessing

# A bare ``Dataset`` is one of labelled pictures, as most are.
E = TypeVar("E", bound=Examples, default=Labelled)


@runtime_checkable
class _Sure(Protocol):
    """Examples that know which test examples go with them."""

    def check_test(self, test: Any) -> None: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset(Generic[E]):
    """A named data set. ``train`` and ``test`` are of one kind and, where the kind says so, of the same classes,
    shape or vocabulary.

    What only some kinds have (``classes``, ``shape``, ``mean``, …) is asked of the examples; ArgumentError, naming the
    kind, where it has none.
    """

    name: str
    train: E
    test: E

    def __post_init__(self) -> None:
        if len(self.train) == 0:
            raise ArgumentError("train", 0, "at least one example to train on")
        if self.train.kind != self.test.kind:
            raise ArgumentError("test", self.test.kind, f"examples of train's kind, {self.train.kind}")
        if isinstance(self.train, _Sure):
            self.train.check_test(self.test)

    @property
    def kind(self) -> str:
        """The kind of its examples: "labelled", "boxes", "maps", …"""
        return self.train.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return cast("tuple[str, ...]", self._asked("classes", "classes"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        return cast("tuple[int, int, int]", self._asked("shape", "pictures of one size"))

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training pictures, pixels taken as 0 … 1."""
        return self._figures[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training pictures, pixels taken as 0 … 1; never 0."""
        return self._figures[1]

    @functools.cached_property
    def _figures(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return cast("tuple[tuple[float, ...], tuple[float, ...]]", self._asked("statistics", "pictures")())

    def preprocessing(
        self, size: tuple[int, int] | None = None, channels: int | None = None, fit: Fit = "resize"
    ) -> Preprocessing:
        """How these pictures become the input of a model of ``size`` (height, width) and ``channels``.

        Mean and deviation are those of the training pictures in the model's channels, before resizing or padding.
        ``size`` must be given where the pictures differ in size.
        """
        own = len(self.mean)
        channels = channels or own
        mean, std = (self.mean, self.std) if channels == own else self._asked("statistics", "pictures")(channels)
        return Preprocessing(channels, size or self.shape[1:], mean, std, fit)

    def restrict(self, classes: Sequence[str]) -> Dataset[E]:
        """Only the examples of ``classes``, numbered anew in that order."""
        restrict = self._asked("restrict", "classes to choose among")
        return Dataset(self.name, restrict(classes), self.test.restrict(classes))  # type: ignore[attr-defined]

    def describe(self) -> dict[str, Any]:
        """What a run's folder keeps of it, as JSON: the number of examples of both parts ("train_images",
        "test_images"), then what the training part says of itself."""
        described = self.train.describe()
        noun = next(iter(described))
        counts = {f"train_{noun}": len(self.train), f"test_{noun}": len(self.test)}
        return {**counts, **{name: value for name, value in described.items() if name != noun}}

    def fingerprint(self) -> int:
        """A CRC-32 over some examples of both parts, that tells it from other data sets."""
        return self.test.fingerprint(self.train.fingerprint())

    def _asked(self, name: str, noun: str) -> Any:
        found = getattr(self.train, name, None)
        if found is None:
            raise ArgumentError("data", f"{self.name!r}, a set of kind {self.kind!r}", f"a data set with {noun}")
        return found

    @classmethod
    def from_arrays(
        cls,
        images: torch.Tensor | numpy.ndarray,
        labels: Labels,
        test_images: torch.Tensor | numpy.ndarray | None = None,
        test_labels: Labels | None = None,
        *,
        classes: Sequence[str] | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset[Labelled]:
        """A data set of labelled pictures in memory.

        ``images`` is uint8, (n, c, h, w), (n, h, w, c) with 1, 3 or 4 channels, or (n, h, w). Without test pictures,
        ``test_fraction`` of every class is set aside for testing, chosen by ``seed``. Labels are numbers or names;
        without ``classes`` numbers are named by themselves, and names sorted. Raises ArgumentError for other types,
        shapes, or labels that do not fit.
        """
        from convscope.data.transforms import as_images

        if (test_images is None) != (test_labels is None):
            raise ArgumentError("test_images", type(test_images).__name__, "test pictures and test labels together")
        pictures = as_images(images, "images")
        tests = None if test_images is None else as_images(test_images, "test_images")
        given = {"labels": labels} if test_labels is None else {"labels": labels, "test_labels": test_labels}
        numbers, names = class_numbers(given, classes)
        whole = Labelled(pictures, numbers[0], names)
        if tests is None:
            train, test = stratified_split(whole, test_fraction, seed)
            return Dataset(name, train, test)
        return Dataset(name, whole, Labelled(tests, numbers[1], names))
