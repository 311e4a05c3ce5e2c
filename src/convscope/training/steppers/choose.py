"""Which engine trains: asked for by name, or the fastest that can."""

from __future__ import annotations

import dataclasses

from convscope.training.steppers.base import Stepper, Task
from convscope.training.steppers.rules import RulesStepper
from convscope.training.steppers.torch import TorchStepper


def choose(task: Task) -> tuple[Stepper, str]:
    """The stepper for ``task.config.engine`` and, in words, why it is this one."""
    config = task.config
    if config.precision == "auto":
        task = dataclasses.replace(task, config=config.replace(precision="float32"))
    if config.engine == "rules":
        return RulesStepper(task), "asked for"
    return TorchStepper(task), "asked for"
