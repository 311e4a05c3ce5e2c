"""Grad-CAM: a layer's maps, weighted by the gradient."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject
from convscope.rules import tape

_DEEP = ("conv", "activation", "combine", "norm")


@method()
def grad_cam(subject: Subject, layer: str | None = None, upsample: bool = True) -> Tensor:
    """max(0, Σ_k α_k·A_k) over the maps A_k of a layer, α_k the mean of ∂s/∂A_k over the map's places.

    Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2017. Without ``layer`` the last one that the score depends on and
    whose maps have more than one place, poolings left out. ``upsample`` stretches the map to the input (bilinear).
    """
    found = subject.back(subject.ran).steps
    step = deepest(subject, found) if layer is None else subject.step(layer)
    maps, delta = step.output, found[step.name].delta
    if maps.ndim < 3 or len(maps) != len(subject.x):
        raise ArgumentError("layer", step.name, f"a layer of maps; its output is {tuple(maps.shape)}")
    if delta is None:
        raise ArgumentError("layer", step.name, "a layer that the target depends on")
    alpha = delta.flatten(2).mean(2).reshape(*delta.shape[:2], *(1,) * (delta.ndim - 2))
    seen = (alpha * maps).sum(1, keepdim=True).clamp_min(0)
    return stretched(seen, subject.x) if upsample else seen


def deepest(subject: Subject, found: dict[str, tape.StepDeltas]) -> tape.Step:
    """The last layer of maps that the score depends on, poolings left out."""
    for step in reversed(subject.ran.steps):
        y = step.output
        maps = isinstance(y, Tensor) and y.ndim == subject.x.ndim >= 3 and y.shape[2:].numel() > 1
        if maps and step.rule.kind in _DEEP and found[step.name].delta is not None:
            return step
    raise ArgumentError("method", "grad_cam", "a model with feature maps", "Choose another method, such as gradient.")


def stretched(maps: Tensor, x: Tensor) -> Tensor:
    """(n, 1, …) in the places of the input."""
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[maps.ndim]
    return F.interpolate(maps, size=x.shape[2:], mode=mode, align_corners=False)
