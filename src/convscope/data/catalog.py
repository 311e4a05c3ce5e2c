"""The catalogues of data sets: those known by name (a loader, a card and the published files for each), and the
layouts in which people's own lie; each enrolled by one decorator."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convscope.data.dataset import Dataset
from convscope.registry import Registry

Loader = Callable[..., Dataset[Any]]


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of a data set before loading it.

    ``kind`` is that of its examples. ``shape`` is (channels, height, width) of its pictures, None where they differ in
    size or there are none; ``classes`` is 0 where there are none; ``train`` and ``test`` are numbers of examples (0
    where they depend on the copy); ``files`` describes what its folder must hold.
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
    kind: str = "labelled"


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file: its name, where it is (mirrors in order; none = to be fetched by hand), and its checksum.

    ``checksum`` is "md5:…" or "sha256:…" as published. ``provides`` are patterns below the data set's folder; where
    one of them is found, the file is not needed. ``unpack``: a tar archive, unpacked into the folder.
    ``page``: where a person finds a file that has no fixed address.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str
    provides: tuple[str, ...] = ()
    unpack: bool = False
    page: str = ""

    def present(self, folder: Path) -> bool:
        patterns = self.provides or (self.name,)
        return folder.is_dir() and any(next(folder.glob(pattern), None) is not None for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    card: Card
    load: Loader
    remotes: tuple[Remote, ...] = ()

    def option_names(self) -> list[str]:
        """The loader's own options, after the folder."""
        return list(inspect.signature(self.load).parameters)[1:]

    def present(self, folder: Path) -> bool:
        """Whether ``folder`` seems to hold what is needed; loading alone can tell for certain."""
        return all(remote.present(folder) for remote in self.remotes)


SOURCES: Registry[Source] = Registry("data", "convscope.data.sources")


def register(name: str, card: Card, *remotes: Remote) -> Callable[[Loader], Loader]:
    """Enrol ``load(folder, **options) → Dataset`` under ``name``; ``folder`` is ``<root>/<name>``."""

    def enrol(load: Loader) -> Loader:
        SOURCES.add(name, Source(name, card, load, remotes))
        return load

    return enrol


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way in which files of a data set may lie: what it looks like, in words; how to recognise it; its loader."""

    name: str
    looks: str
    recognises: Callable[[Path], bool]
    load: Loader
    last: bool

    def option_names(self) -> list[str]:
        """The loader's own options, after the path."""
        return [name for name in inspect.signature(self.load).parameters if name not in ("folder", "path", "subsets")]


LAYOUTS: Registry[Layout] = Registry("layout", "convscope.data.layouts")


def layout(
    name: str, looks: str, recognises: Callable[[Path], bool], *, last: bool = False
) -> Callable[[Loader], Loader]:
    """Enrol ``load(path, **options) → Dataset`` for what ``recognises(path)``; those that are ``last`` are asked after
    all others."""

    def enrol(load: Loader) -> Loader:
        LAYOUTS.add(name, Layout(name, looks, recognises, load, last))
        return load

    return enrol
