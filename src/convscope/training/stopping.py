"""When a run ends before its last epoch: the loss has stopped falling, or it has gone out of bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

# A loss this many times the largest of the run's first readings is an explosion: good runs rise by a factor of a few.
EXPLOSION = 1e4


def converged(losses: Sequence[float], tolerance: float, patience: int) -> bool:
    """Whether |ΔJ| between neighbouring ``losses`` stayed below ``tolerance`` in the last ``patience`` changes.

    Training stops when J has converged or the iterations are used up (Xue 2016 slides, "训练步骤").
    """
    if tolerance <= 0 or len(losses) <= patience:
        return False
    recent = losses[-patience - 1 :]
    return all(abs(after - before) < tolerance for before, after in itertools.pairwise(recent))


class LossGuard:
    """Tells whether a loss is out of bounds: not a number, infinite, or ``EXPLOSION`` times the first one."""

    def __init__(self) -> None:
        self.bound: float | None = None

    def broken(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        if self.bound is None:
            self.bound = EXPLOSION * max(abs(loss), 1.0)
        return abs(loss) > self.bound


def first_broken_layer(model: nn.Module, inputs: Sequence[torch.Tensor]) -> str:
    """Where numbers first go bad, in words: the first layer whose weights are not finite, else the first whose output
    is not finite, else the layer with the largest output."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights {name!r} are no longer finite"
    found: list[tuple[str, bool, float]] = []
    handles = [
        module.register_forward_hook(_record(name, found))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, finite, _ in found:
        if not finite:
            return f"layer {name!r} is the first whose output is not finite"
    if not found:
        return "no layer could be looked at"
    name, _, largest = max(found, key=lambda each: each[2])
    return f"layer {name!r} has the largest output, {largest:.3g}"


def _record(name: str, found: list[tuple[str, bool, float]]) -> Callable[[nn.Module, object, object], None]:
    def hook(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            finite = bool(torch.isfinite(output).all())
            found.append((name, finite, float(output.abs().max()) if finite else math.inf))

    return hook
