"""The gradient of the score."""

from __future__ import annotations

from torch import Tensor

from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject


@method()
def gradient(subject: Subject) -> Tensor:
    """∂s/∂x: how the score s moves with each pixel.

    Simonyan, Vedaldi, Zisserman 2013 (who draw its largest absolute value over the channels).
    """
    return subject.gradient(subject.x)
