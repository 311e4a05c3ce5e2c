"""Small models made of functions and layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Shape = tuple[int, int, int]
Case = tuple[Callable[[], nn.Module], Shape]

MAPS: Shape = (3, 9, 7)
ONE: Shape = (1, 6, 5)
MANY: Shape = (17, 7, 8)


class Function(nn.Module):
    """A model that is one function of x; ``parts`` are its modules, by name in ``self``."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def conv(*args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*args, **kwargs)


def function(body: Callable[[Any, Tensor], Any], **parts: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Function(body, **{name: part() for name, part in parts.items()})


def sequence(*parts: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(part() for part in parts))
