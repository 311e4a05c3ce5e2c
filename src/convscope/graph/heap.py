"""Memory that is no longer needed: whether anybody has it still, and how it is given back to the system."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def give_back() -> None:
    """Let the system have what the C library holds of freed memory.

    A look at a model that is made once (a record of a call, a comparison with torch) leaves as much behind as its
    activations take, which the library would keep to the end. Of GNU's library alone this can be asked; it takes some
    milliseconds, and next to nothing where little was freed.
    """
    trim = getattr(_library, "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_alone(holder: Any, name: str, others: int = 0) -> bool:
    """Whether nothing in Python refers to an attribute's object but the attribute, and so many ``others``."""
    return sys.getrefcount(holder.__dict__[name]) <= _ALONE + others


class _Holder:
    def __init__(self) -> None:
        self.held = object()


def _references(holder: Any, name: str) -> int:
    return sys.getrefcount(holder.__dict__[name])


_ALONE = _references(_Holder(), "held")
_library = ctypes.CDLL(None) if sys.platform == "linux" else None
