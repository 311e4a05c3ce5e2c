"""Which part of the picture mattered: the class score's gradient × input, and what covering a patch takes away."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.layers.losses import Loss

METHODS = ("gradient_input", "occlusion")
_BATCH = 32


def gradient_input(model: nn.Module, loss: Loss, x: Tensor, cls: int) -> Tensor:
    """x ⊙ ∂score/∂x summed over the channels, (h, w); the score is the one that decides between the classes."""
    with torch.enable_grad():
        given = x.detach().clone().requires_grad_()
        output = model(given.clone())
        score = loss.predictions(output)[0, cls]
        (gradient,) = torch.autograd.grad(score, given)
    return _flat((given * gradient).detach()[0])


@torch.no_grad()
def occlusion(
    model: nn.Module, loss: Loss, x: Tensor, cls: int, fill: Tensor, stopped: Callable[[], bool]
) -> Tensor | None:
    """How far the score falls when a patch is painted over with ``fill`` (the model's input for an empty picture), as
    the mean over the patches that cover a pixel, (h, w). None when ``stopped()`` says so on the way."""
    if x.ndim != 4:
        x_map = x.reshape(1, 1, 1, -1)
        fill = fill.reshape(1, 1, 1, -1)
    else:
        x_map = x
    height, width = x_map.shape[-2:]
    patch = (max(1, height // 7), max(1, width // 7))
    step = (max(1, patch[0] // 2), max(1, patch[1] // 2))
    corners = [
        (top, left)
        for top in range(0, max(1, height - patch[0] + 1), step[0])
        for left in range(0, max(1, width - patch[1] + 1), step[1])
    ]
    base = loss.predictions(model(x.clone()))[0, cls]
    total, covered = x_map.new_zeros(height, width), x_map.new_zeros(height, width)
    for start in range(0, len(corners), _BATCH):
        if stopped():
            return None
        part = corners[start : start + _BATCH]
        batch = x_map.repeat(len(part), 1, 1, 1)
        for place, (top, left) in enumerate(part):
            area = (slice(None), slice(top, top + patch[0]), slice(left, left + patch[1]))
            batch[place][area] = fill[0][area]
        scores = loss.predictions(model(batch.reshape(len(part), *x.shape[1:])))[:, cls]
        for (top, left), score in zip(part, scores, strict=True):
            total[top : top + patch[0], left : left + patch[1]] += base - score
            covered[top : top + patch[0], left : left + patch[1]] += 1
    return total / covered.clamp_min(1)


def _flat(values: Tensor) -> Tensor:
    match values.ndim:
        case 1:
            return values[None]
        case 2:
            return values
        case _:
            return values.sum(0)
