"""The Python face of the native CPU engine."""

from __future__ import annotations

from convscope.lowering.lower import lower
from convscope.native.accelerated import Accelerated, accelerate
from convscope.native.availability import EngineUnavailableError, available
from convscope.native.network import NativeNetwork
from convscope.native.trust import DiffersFromTorchWarning, checking

__all__ = [
    "Accelerated",
    "DiffersFromTorchWarning",
    "EngineUnavailableError",
    "NativeNetwork",
    "accelerate",
    "available",
    "checking",
    "lower",
]
