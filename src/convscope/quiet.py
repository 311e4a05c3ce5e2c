"""Silence for other libraries' warnings, also where several threads work at once."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0  # threads that are quiet now
_filters = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is warned of inside. Python keeps one list of filters for the whole process: if each of two threads put
    back what it had found, the one that leaves last would put back the other's silence, for good. Here the first that
    comes makes the silence, and the last that goes ends it.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _filters.close()
