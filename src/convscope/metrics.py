"""Figures of what models answer, to be used by themselves: ``convscope.metrics.mean_iou``, …

Each is defined by the task that is measured with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.tasks.segmentation.metrics import mean_iou as mean_iou

_PLACES = {"mean_iou": "segmentation"}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'convscope.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"convscope.tasks.{_PLACES[name]}.metrics"), name)


def __dir__() -> list[str]:
    return __all__
