"""Tensors by name, each made when it is first looked up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor


class Later(Mapping[str, Tensor]):
    """``makers`` by name; what one made is kept and the maker let go. Threads may look up at the same time."""

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._names = tuple(makers)
        self._makers = dict(makers)
        self._made: dict[str, Tensor] = {}
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Tensor:
        with self._lock:
            if name in self._makers:
                self._made[name] = self._makers[name]()
                del self._makers[name]
            return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
