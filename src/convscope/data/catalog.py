"""The catalogue of data sets: a loader and a card for each, enrolled by one decorator."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

from convscope.data.dataset import Dataset
from convscope.registry import Registry

Loader = Callable[..., Dataset]


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of a data set before loading it.

    ``shape`` is (channels, height, width), None where pictures differ in size; ``train`` and ``test`` are numbers of
    pictures (0 where they depend on the copy); ``files`` describes what its folder must hold.
    """

    title: str
    year: int
    source: str
    shape: tuple[int, int, int] | None
    classes: int
    train: int
    test: int
    files: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    card: Card
    load: Loader

    def option_names(self) -> list[str]:
        """The loader's own options, after the folder."""
        return list(inspect.signature(self.load).parameters)[1:]


SOURCES: Registry[Source] = Registry("data", "convscope.data.sources")


def register(name: str, card: Card) -> Callable[[Loader], Loader]:
    """Enrol ``load(folder, **options) → Dataset`` under ``name``; ``folder`` is ``<root>/<name>``."""

    def enrol(load: Loader) -> Loader:
        SOURCES.add(name, Source(name, card, load))
        return load

    return enrol
