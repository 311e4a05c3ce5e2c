"""Which engine trains: the one asked for, or the fastest that can."""

from __future__ import annotations

import dataclasses

import torch

from convscope.errors import ArgumentError, LoweringError
from convscope.training.steppers.base import Assignment, Stepper
from convscope.training.steppers.gpu import GpuStepper
from convscope.training.steppers.rules import RulesStepper
from convscope.training.steppers.torch import TorchStepper


def choose(assignment: Assignment) -> tuple[Stepper, str]:
    """The stepper for ``assignment.config.engine`` and, in words, why it is this one.

    "auto": torch on a GPU where the run is on one; on a CPU the native engine where it is built and has all layers of
    the model, else torch. The native engine asked for by name leaves layers that it lacks to torch. Raises
    ArgumentError for an engine that cannot do what was asked for, LoweringError (naming the layer) for a model of which
    the native engine, asked for by name, can run nothing.
    """
    assignment = dataclasses.replace(assignment, config=assignment.config.replace(precision=_precision(assignment)))
    engine, on_gpu = assignment.config.engine, assignment.device.type == "cuda"
    together = assignment.config.sync_batch_norm and assignment.group.world > 1
    if together and (engine in ("rules", "native") or assignment.config.compile):
        name = "compile" if engine not in ("rules", "native") else "engine"
        wanted = "no compilation" if name == "compile" else "torch"
        hint = "Only eager torch exchanges statistics in mid-layer"
        raise ArgumentError(name, getattr(assignment.config, name), f"{wanted} with sync_batch_norm", hint)
    if engine == "rules":
        return RulesStepper(assignment), "asked for"
    if engine == "native":
        obstacle = _obstacle_to_native(assignment)
        if obstacle is not None:
            raise ArgumentError("engine", "native", f"another engine: {obstacle}", "engine='auto' chooses one")
        return _native_in_part(assignment)
    if on_gpu:
        return GpuStepper(assignment), "asked for" if engine == "torch" else "there is a GPU"
    if engine == "torch":
        return TorchStepper(assignment), "asked for"
    obstacle = _obstacle_to_native(assignment)
    if obstacle is None and assignment.objective.lowered(assignment.model) is None:
        obstacle = f"the native engine has no {type(assignment.objective).__name__}"
    if obstacle is None:
        try:
            return _native(assignment), "every layer has a native kernel"
        except LoweringError as problem:
            obstacle = f"the native engine cannot run {problem}"
    return TorchStepper(assignment), obstacle


def _precision(assignment: Assignment) -> str:
    asked, on_gpu = assignment.config.precision, assignment.device.type == "cuda"
    if asked == "auto":
        return (
            "bfloat16"
            if on_gpu and assignment.config.engine != "rules" and torch.cuda.is_bf16_supported()
            else "float32"
        )
    if asked == "bfloat16" and assignment.config.engine == "rules":
        raise ArgumentError("precision", asked, "float32 or float64 with engine='rules'")
    return asked


def _obstacle_to_native(assignment: Assignment) -> str | None:
    """Why the native engine cannot be used whatever the model, or None."""
    if assignment.device.type != "cpu":
        return "the native engine runs on CPUs"
    if assignment.config.sync_batch_norm and assignment.group.world > 1:
        return "batch normalisation is synchronised between processes, which the native engine does not do"
    if assignment.config.precision != "float32":
        return f"the native engine computes in float32, and precision is {assignment.config.precision}"
    from convscope import native

    if not native.available():
        return "the native engine is not built here"
    return None


def _native(assignment: Assignment) -> Stepper:
    from convscope.training.steppers.native import NativeStepper

    return NativeStepper(assignment)


def _native_in_part(assignment: Assignment) -> tuple[Stepper, str]:
    """The native engine, at least for a part of the model, and why in words."""
    from convscope.training.steppers.native import SegmentsStepper

    try:
        return _native(assignment), "asked for"
    except LoweringError as problem:
        return SegmentsStepper(assignment), f"asked for; torch does what the engine cannot: {problem}"
