"""Guided backpropagation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject
from convscope.rules.base import Deltas
from convscope.rules.elementwise import Elementwise
from convscope.rules.tape import Step


@method(honest=False)
def guided_backprop(subject: Subject) -> Tensor:
    """The way back along what fired and speaks for it: each rectifier passes f′(u)·δ⁺ on.

    Springenberg, Dosovitskiy, Brox, Riedmiller 2015.
    """
    subject.require_insight("guided_backprop")
    return subject.gradient(subject.x, through)


def through(step: Step, delta: Any) -> Deltas | None:
    """f′(u)·δ⁺ at rectifiers; elsewhere the rule."""
    if isinstance(step.rule, Elementwise) and step.rule.rectifies:
        return step.rule.backward(step.saved, delta.clamp_min(0))[0]
    return None
