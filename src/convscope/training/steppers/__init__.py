"""Engines behind one protocol: a stepper takes a batch and makes one descent step."""

from convscope.training.steppers.base import Reading, Stepper, Task
from convscope.training.steppers.choose import choose

__all__ = ["Reading", "Stepper", "Task", "choose"]
