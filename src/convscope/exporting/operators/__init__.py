"""One converter an operator of ATen: which nodes of ONNX compute the same."""

from __future__ import annotations

import importlib
import pkgutil


def discover() -> None:
    """Import every file here, so that its converters are enrolled."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
