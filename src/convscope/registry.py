"""A registry: one decorator enrols an entry, and tests, command-line choices and the explorer find it there."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from convscope.errors import UnknownNameError

T = TypeVar("T")


class Discovery:
    """Called, it imports every module below ``package``, once.

    Whichever thread asks meanwhile waits until all are there; the searching thread itself, asked again by what it
    imports, goes on. A search that failed is made again.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._lock = threading.RLock()
        self._begun = self._done = False

    def __call__(self) -> None:
        if self._done:
            return
        with self._lock:
            if self._begun:
                return
            self._begun = True
            try:
                _import_below(self._package)
                self._done = True
            finally:
                self._begun = self._done

    def near(self, name: str) -> None:
        """Import what carries the name of an entry, where there is such a module or folder."""
        if self._done or not name.isidentifier():
            return
        with self._lock:
            if importlib.util.find_spec(f"{self._package}.{name}") is not None:
                _import_below(f"{self._package}.{name}")

    def called(self, name: str) -> None:
        """Import the modules of that name, however deep they lie; nothing else is imported to look for them."""
        if self._done or not name.isidentifier():
            return
        with self._lock:
            for root in map(Path, importlib.import_module(self._package).__path__):
                for file in root.rglob(f"{name}.py"):
                    importlib.import_module(".".join((self._package, *file.relative_to(root).with_suffix("").parts)))


def _import_below(package: str) -> None:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(getattr(root, "__path__", ()), package + "."):
        importlib.import_module(module.name)


class Registry(Generic[T]):
    """Entries by name. With ``package``, the modules below it are imported at the first look-up, so that a new entry
    is one file plus one decorator: the module or folder of the entry's own name, and all where that is not enough.

    ``in_own_modules``: every entry is registered in a module of its own name, somewhere below, so that to learn that
    there is none costs no import.
    """

    def __init__(self, kind: str, package: str | None = None, *, in_own_modules: bool = False) -> None:
        self.kind = kind
        self._in_own_modules = in_own_modules
        self._discovery = None if package is None else Discovery(package)
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Enrol ``entry``; a second entry of the same name is a mistake of ours, not of the user."""
        assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """``add`` as a decorator."""
        return lambda entry: self.add(name, entry)

    def __getitem__(self, name: str) -> T:
        """The entry; UnknownNameError with close matches when there is none."""
        if name not in self:
            raise UnknownNameError(self.kind, name, self.names())
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries and self._discovery is not None and isinstance(name, str):
            if self._in_own_modules:
                self._discovery.called(name)
            else:
                self._discovery.near(name)
                if name not in self._entries:
                    self._discovery()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._entries)

    def _discover(self) -> None:
        if self._discovery is not None:
            self._discovery()
