"""Memory that is no longer needed: whether anybody has it still, and how it is given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

MANY = 1 << 23  # bytes of results after which it pays to give back what was freed of them


def give_back() -> None:
    """Let the system have what the C library holds of freed memory.

    A look at a model that is made once (a record of a call, a comparison with torch) leaves as much behind as its
    activations take, which the library would keep to the end. Of GNU's library alone this can be asked; it takes some
    milliseconds, and next to nothing where little was freed.
    """
    trim = getattr(_library, "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def sparing() -> Iterator[None]:
    """While entered, give back what modules of this thread free every now and then: pieces of other sizes than those to
    come, which the C library would keep beside them. Nothing is done where a profiler is at work."""
    if sys.getprofile() is not None:
        yield
        return
    put_out = 0

    def event(frame: types.FrameType, what: str, result: Any) -> None:
        nonlocal put_out
        if what == "return" and frame.f_code is _MODULE_CALL and type(result) is Tensor:
            put_out += result.numel() * result.element_size()
            if put_out >= MANY:
                put_out = 0
                give_back()

    sys.setprofile(event)
    try:
        yield
    finally:
        sys.setprofile(None)


def is_alone(holder: Any, name: str, others: int = 0) -> bool:
    """Whether nothing in Python refers to an attribute's object but the attribute, and so many ``others``."""
    return sys.getrefcount(holder.__dict__[name]) <= _ALONE + others


class _Holder:
    def __init__(self) -> None:
        self.held = object()


def _references(holder: Any, name: str) -> int:
    return sys.getrefcount(holder.__dict__[name])


_MODULE_CALL = nn.Module._wrapped_call_impl.__code__
_ALONE = _references(_Holder(), "held")
_library = ctypes.CDLL(None) if sys.platform == "linux" else None
