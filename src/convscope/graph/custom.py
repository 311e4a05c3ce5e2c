"""Custom autograd functions as steps of a graph."""

from __future__ import annotations

from typing import Any

import torch


class Applied:
    """``function.apply`` of a ``torch.autograd.Function``, with a name that a graph's code can call it by."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function.apply(*args, **keywords)  # type: ignore[no-untyped-call]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Applied) and self.function is other.function

    def __hash__(self) -> int:
        return hash(self.function)
