"""Silence for the warnings of libraries that read files, also where several threads work at once."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

_MODULES = r"(PIL|torch|convscope)(\.|$)"  # what warns, or what it says has made it warn

_lock = threading.Lock()
_inside = 0  # threads that are quiet now
_filters = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While any thread is inside, Pillow's and torch's warnings of odd files are left out: they are nobody's concern.

    Filters belong to the whole process. If each of two threads put back what it had found, the one that leaves last
    would put back the other's silence, for good. So the first that comes sets them, and the last that goes restores
    them; other modules' warnings are left as they are.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=_MODULES)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _filters.close()
