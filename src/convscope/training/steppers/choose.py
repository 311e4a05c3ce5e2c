"""Which engine trains: the one asked for, or the fastest that can."""

from __future__ import annotations

import dataclasses

import torch

from convscope.errors import ArgumentError, LoweringError
from convscope.training.steppers.base import Stepper, Task
from convscope.training.steppers.gpu import GpuStepper
from convscope.training.steppers.rules import RulesStepper
from convscope.training.steppers.torch import TorchStepper


def choose(task: Task) -> tuple[Stepper, str]:
    """The stepper for ``task.config.engine`` and, in words, why it is this one.

    "auto": torch on a GPU where the run is on one; on a CPU the native engine where it is built and has all layers of
    the model, else torch. Raises ArgumentError for an engine that cannot do what was asked for, LoweringError (naming
    the layer) for a model that the native engine, asked for by name, cannot run.
    """
    task = dataclasses.replace(task, config=task.config.replace(precision=_precision(task)))
    engine, on_gpu = task.config.engine, task.device.type == "cuda"
    if engine == "rules":
        return RulesStepper(task), "asked for"
    if engine == "native":
        obstacle = _obstacle_to_native(task)
        if obstacle is not None:
            raise ArgumentError("engine", "native", f"another engine: {obstacle}", "engine='auto' chooses one")
        return _native(task), "asked for"
    if on_gpu:
        return GpuStepper(task), "asked for" if engine == "torch" else "there is a GPU"
    if engine == "torch":
        return TorchStepper(task), "asked for"
    obstacle = _obstacle_to_native(task)
    if obstacle is None:
        try:
            return _native(task), "every layer has a native kernel"
        except LoweringError as problem:
            obstacle = f"the native engine cannot run {problem}"
    return TorchStepper(task), obstacle


def _precision(task: Task) -> str:
    asked, on_gpu = task.config.precision, task.device.type == "cuda"
    if asked == "auto":
        return "bfloat16" if on_gpu and task.config.engine != "rules" and torch.cuda.is_bf16_supported() else "float32"
    if asked == "bfloat16" and task.config.engine == "rules":
        raise ArgumentError("precision", asked, "float32 or float64 with engine='rules'")
    return asked


def _obstacle_to_native(task: Task) -> str | None:
    """Why the native engine cannot be used whatever the model, or None."""
    if task.device.type != "cpu":
        return "the native engine runs on CPUs"
    if task.config.precision != "float32":
        return f"the native engine computes in float32, and precision is {task.config.precision}"
    from convscope import native

    if not native.available():
        return "the native engine is not built here"
    return None


def _native(task: Task) -> Stepper:
    from convscope.training.steppers.native import NativeStepper

    return NativeStepper(task)
