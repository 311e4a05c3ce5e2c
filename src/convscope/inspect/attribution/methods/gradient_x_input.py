"""The gradient times the input."""

from __future__ import annotations

from torch import Tensor

from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject


@method(adds_up=True)
def gradient_x_input(subject: Subject) -> Tensor:
    """x·∂s/∂x: what each pixel adds to the score, as far as the network is linear.

    Shrikumar, Greenside, Shcherbina, Kundaje 2016. A network without biases whose only bends are rectifiers is
    homogeneous, and the sum over all pixels is then s itself.
    """
    return subject.x * subject.gradient(subject.x)
