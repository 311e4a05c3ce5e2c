"""The deconvolutional network."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject
from convscope.rules.base import Deltas
from convscope.rules.elementwise import Elementwise
from convscope.rules.tape import Step


@method()
def deconvnet(subject: Subject) -> Tensor:
    """The way back with rectified δ: each rectifier passes δ⁺ on, whether or not its unit fired.

    Zeiler, Fergus 2014: convolutions transposed, maxima put back to their recorded places (both are the derivative's
    own way), rectifiers applied to the signal on its way down.
    """
    subject.require_insight("deconvnet")
    return subject.gradient(subject.x, through)


def through(step: Step, delta: Any) -> Deltas | None:
    """δ⁺ at rectifiers; elsewhere the rule."""
    if isinstance(step.rule, Elementwise) and step.rule.rectifies:
        return (delta.clamp_min(0),)
    return None
