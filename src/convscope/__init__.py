"""convscope: a convolutional-network workbench.

It trains the classic CNNs fast on the computer at hand and shows everything that happens inside them. The public names
below are loaded when first used, so that ``import convscope`` and the command line's help stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope import kernels as kernels
    from convscope import metrics as metrics
    from convscope import ops as ops
    from convscope import sklearn as sklearn
    from convscope.data import list_datasets as list_datasets
    from convscope.data import load_dataset as load_dataset
    from convscope.explorer import explore as explore
    from convscope.exporting import export_onnx as export_onnx
    from convscope.inspect.attribution import attribute as attribute
    from convscope.inspect.attribution import maximise as maximise
    from convscope.inspect.attribution import top_examples as top_examples
    from convscope.inspect.count import count as count
    from convscope.inspect.equivariance import equivariance as equivariance
    from convscope.inspect.receptive_field import receptive_field as receptive_field
    from convscope.inspect.trace import trace as trace
    from convscope.models import create_model as create_model
    from convscope.models import list_models as list_models
    from convscope.models.committee import committee as committee
    from convscope.models.compressing import compress as compress
    from convscope.native import accelerate as accelerate
    from convscope.tasks import evaluate as evaluate
    from convscope.tasks import fit as fit
    from convscope.tasks import predict as predict
    from convscope.tasks.filtering import filter_picture as filter_picture
    from convscope.training import load as load
    from convscope.training import save as save

__version__ = "0.1.0"

_ROOMS = {
    "list_models": "models",
    "create_model": "models",
    "committee": "models.committee",
    "compress": "models.compressing",
    "list_datasets": "data",
    "load_dataset": "data",
    "fit": "tasks",
    "evaluate": "tasks",
    "save": "training",
    "load": "training",
    "predict": "tasks",
    "filter_picture": "tasks.filtering",
    "attribute": "inspect",
    "maximise": "inspect",
    "top_examples": "inspect",
    "equivariance": "inspect",
    "trace": "inspect",
    "receptive_field": "inspect",
    "count": "inspect",
    "accelerate": "native",
    "explore": "explorer",
    "export_onnx": "exporting",
}

_MODULES = ("kernels", "metrics", "ops", "sklearn")

__all__ = [*sorted([*_ROOMS, *_MODULES]), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"convscope.{name}")
    if name not in _ROOMS:
        raise AttributeError(f"module 'convscope' has no attribute {name!r}")
    return getattr(importlib.import_module(f"convscope.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
