"""The arithmetic of single numbers, written out: a unit's value, its sensitivity, a weight's gradient."""

from convscope.explorer.arithmetic import attention as attention
from convscope.explorer.arithmetic import regions as regions
from convscope.explorer.arithmetic import sampling as sampling
from convscope.explorer.arithmetic import sequences as sequences  # its families enrol themselves
from convscope.explorer.arithmetic.backward import BACKWARD_RULES
from convscope.explorer.arithmetic.backward import explain as explain_backward
from convscope.explorer.arithmetic.families import FAMILIES, Family
from convscope.explorer.arithmetic.forward import explain as explain_forward
from convscope.explorer.arithmetic.gradients import explain as explain_gradient
from convscope.explorer.arithmetic.layer import Layer, family_of
from convscope.explorer.arithmetic.terms import Explanation, Line, Terms, follow

__all__ = [
    "BACKWARD_RULES",
    "FAMILIES",
    "Explanation",
    "Family",
    "Layer",
    "Line",
    "Terms",
    "explain_backward",
    "explain_forward",
    "explain_gradient",
    "family_of",
    "follow",
]
