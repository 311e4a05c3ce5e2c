"""Options that several loaders share: which classes, and how many pictures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from convscope import seeding
from convscope.data.dataset import Dataset
from convscope.data.kinds.labelled import stratified_places
from convscope.errors import ArgumentError

T = TypeVar("T")


def class_list(
    classes: str | Sequence[str] | None, subsets: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[str, ...] | None:
    """``classes`` as names: a sequence, "cat,dog", or the name of one of the ``subsets``; None stays None (all)."""
    if classes is None:
        return None
    if isinstance(classes, str):
        if subsets and classes in subsets:
            return subsets[classes]
        return tuple(name.strip() for name in classes.split(",") if name.strip())
    return tuple(classes)


def chosen_classes(
    dataset: Dataset, classes: str | Sequence[str] | None, subsets: Mapping[str, tuple[str, ...]] | None = None
) -> Dataset:
    """Only the pictures of ``classes``, numbered anew in that order; ArgumentError for a class that is not there."""
    names = class_list(classes, subsets)
    return dataset if names is None else dataset.restrict(names)


def set_aside(items: Sequence[T], test_fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """(training, test): ``test_fraction`` of the ``items`` set aside by ``seed``, both in the order they had."""
    places = stratified_places(torch.zeros(len(items), dtype=torch.int64), 1, test_fraction, seed)
    train, test = ([items[place] for place in each.tolist()] for each in places)
    return train, test


def draw_per_class(
    labels: Sequence[int], classes: Sequence[str], counts: tuple[int, int], seed: int
) -> tuple[list[int], list[int]]:
    """Indices of ``counts`` = (training, test) pictures of every class, drawn without repetition by ``seed``."""
    numbers = torch.tensor(labels, dtype=torch.int64)
    train: list[int] = []
    test: list[int] = []
    for number, name in enumerate(classes):
        members = torch.nonzero(numbers == number).flatten()
        if len(members) < sum(counts):
            raise ArgumentError(
                "train_per_class", counts[0],
                f"together with test_per_class = {counts[1]} at most the {len(members)} pictures of class {name!r}",
            )  # fmt: skip
        order = members[torch.randperm(len(members), generator=seeding.generator(seed, "per class", name))]
        train += sorted(order[: counts[0]].tolist())
        test += sorted(order[counts[0] : sum(counts)].tolist())
    return train, test
