"""Class names and class numbers: what every kind that has them checks in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError


def check_names(classes: Sequence[str]) -> None:
    """ArgumentError where there is no class name, or one twice."""
    if not classes:
        raise ArgumentError("classes", classes, "at least one class name")
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ArgumentError("classes", twice, "every class name once")


def check_numbers(labels: Tensor, classes: Sequence[str]) -> None:
    """ArgumentError for class numbers that are not int64 (n,) with values 0 … len(classes) − 1."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        kind = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        raise ArgumentError("labels", kind, "an int64 tensor of shape (n,)")
    if len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(classes):
            wanted = f"class numbers 0 … {len(classes) - 1}, one a class name"
            raise ArgumentError("labels", low if low < 0 else high, wanted)


def check_same(train: Sequence[str], test: Sequence[str]) -> None:
    """ArgumentError where the test part has other class names than the training part."""
    if tuple(train) != tuple(test):
        raise ArgumentError("test", test, f"the classes of train, {train}")


def renumbering(classes: Sequence[str], chosen: Sequence[str]) -> Tensor:
    """int64 (len(classes),): the number of each class among ``chosen``, −1 for those that are not; ArgumentError for a
    name that is not there, or is there twice."""
    for name in chosen:
        if name not in classes:
            raise ArgumentError("classes", name, f"names among {', '.join(classes)}")
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ArgumentError("classes", tuple(chosen), "at least one class name, each once")
    numbers = torch.full((len(classes),), -1, dtype=torch.int64)
    numbers[[classes.index(name) for name in chosen]] = torch.arange(len(chosen))
    return numbers
