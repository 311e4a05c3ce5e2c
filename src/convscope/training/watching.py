"""What the layers do while the network learns: activations, sensitivities, dead units and first-layer kernels, taken on
the same few test examples after every epoch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from convscope.training.task import Objective

EXAMPLES = 64
BINS = 40


@dataclasses.dataclass(frozen=True)
class LayerWatch:
    """One layer's outputs y and sensitivities ∂J/∂y (of the mean loss) over the watched examples.

    ``dead`` is the share of units (channels, or single outputs of a fully connected layer) that give 0 for every one of
    the examples at every position; None for layers that are no rectifiers.
    """

    name: str
    kind: str
    units: int
    mean: float
    std: float
    dead: float | None
    delta_mean: float  # of |∂J/∂y|
    delta_std: float


@dataclasses.dataclass(frozen=True)
class Watch:
    """``layers`` in forward order; ``tensors`` holds, by "<layer>/<what>", histograms of y and ∂J/∂y (``counts`` of
    ``BINS`` equal steps between the two ``range`` values) and, for the first convolution, its ``kernels``."""

    layers: tuple[LayerWatch, ...]
    tensors: dict[str, torch.Tensor]


def watch(model: nn.Module, inputs: Sequence[torch.Tensor], targets: Any, objective: Objective) -> Watch:
    """Run ``model`` in evaluation mode on its ``inputs`` forward and backward; ``.grad`` and modes stay."""
    outputs: dict[str, torch.Tensor] = {}
    with _evaluating(model), _listening(model, outputs), torch.enable_grad():
        # The inputs ask for gradients so that layers in front of the first trained one have sensitivities as well.
        asking = [x.detach().requires_grad_() if x.is_floating_point() else x for x in inputs]
        value = objective.value(model(*asking), targets)
        kept = {name: y for name, y in outputs.items() if y.requires_grad}
        deltas = torch.autograd.grad(value, list(kept.values()), allow_unused=True)
    modules = dict(model.named_modules())
    layers: list[LayerWatch] = []
    tensors: dict[str, torch.Tensor] = {}
    for (name, y), delta in zip(kept.items(), deltas, strict=True):
        y = y.detach()
        delta = torch.zeros_like(y) if delta is None else delta
        layers.append(_figures(name, modules[name], y, delta))
        tensors |= _histogram(f"{name}/activation", y) | _histogram(f"{name}/delta", delta)
    for name, module in modules.items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 4:
            tensors[f"{name}/kernels"] = weight.detach()
            break
    return Watch(tuple(layers), tensors)


def _figures(name: str, module: nn.Module, y: torch.Tensor, delta: torch.Tensor) -> LayerWatch:
    by_unit = y.transpose(0, 1).flatten(1) if y.ndim > 1 else y[None]  # (units, n·h·w)
    rectifier = isinstance(module, nn.ReLU | nn.ReLU6)
    return LayerWatch(
        name=name,
        kind=type(module).__name__,
        units=len(by_unit),
        mean=float(y.mean()),
        std=float(y.std(correction=0)),
        dead=float((by_unit <= 0).all(1).float().mean()) if rectifier else None,
        delta_mean=float(delta.abs().mean()),
        delta_std=float(delta.std(correction=0)),
    )


def _histogram(name: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    flat = values.flatten().float().cpu()
    low, high = flat.min(), flat.max()
    if not torch.isfinite(flat).all() or low == high:
        counts = torch.zeros(BINS)
        counts[BINS // 2] = len(flat)
    else:
        counts = torch.histc(flat, BINS, float(low), float(high))
    return {f"{name}_counts": counts, f"{name}_range": torch.stack((low, high))}


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextlib.contextmanager
def _listening(model: nn.Module, outputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """Note what every leaf module puts out, its first use in a pass."""

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: object, output: object) -> object:
            if isinstance(output, torch.Tensor) and output.is_floating_point() and name not in outputs:
                outputs[name] = output
                # What comes next may work in place (ReLU(inplace=True)): it gets a copy, and the value noted stays.
                return output.clone()
            return output

        return module.register_forward_hook(hook)

    handles = [listen(name, each) for name, each in model.named_modules() if name and not list(each.children())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
