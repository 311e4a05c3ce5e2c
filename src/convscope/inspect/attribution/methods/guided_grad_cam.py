"""Guided Grad-CAM: the fine picture where the coarse one is bright."""

from __future__ import annotations

from torch import Tensor

from convscope.inspect.attribution.methods.grad_cam import grad_cam
from convscope.inspect.attribution.methods.guided_backprop import guided_backprop
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject


@method()
def guided_grad_cam(subject: Subject, layer: str | None = None) -> Tensor:
    """Guided backpropagation times Grad-CAM, pixel by pixel.

    Selvaraju et al. 2017, section 3.2.
    """
    return guided_backprop(subject) * grad_cam(subject, layer=layer)
