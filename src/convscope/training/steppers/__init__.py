"""Engines behind one protocol: a stepper takes a batch and makes one descent step."""

from convscope.training.steppers.base import Assignment, Reading, Share, Stepper
from convscope.training.steppers.choose import choose

__all__ = ["Assignment", "Reading", "Share", "Stepper", "choose"]
