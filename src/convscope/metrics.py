"""Figures of what models answer, to be used by themselves: ``convscope.metrics.mean_iou``, …

Each is defined by the task that is measured with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.tasks.average_precision import average_precision as average_precision
    from convscope.tasks.average_precision import coco_figures as coco_figures
    from convscope.tasks.average_precision import voc_curves as voc_curves
    from convscope.tasks.bleu import bleu as bleu
    from convscope.tasks.detection_errors import errors_of as errors_of
    from convscope.tasks.segmentation.metrics import mean_iou as mean_iou

_PLACES = {
    "average_precision": "average_precision",
    "bleu": "bleu",
    "coco_figures": "average_precision",
    "errors_of": "detection_errors",
    "mean_iou": "segmentation.metrics",
    "voc_curves": "average_precision",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'convscope.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"convscope.tasks.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
