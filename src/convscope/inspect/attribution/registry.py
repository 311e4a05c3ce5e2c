"""The methods: one a file in ``methods/``, enrolled by a decorator; the command line, the explorer and the docs list
them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.training_modes import looking
from convscope.inspect.attribution.subject import Subject
from convscope.inspect.attribution.target import Target
from convscope.layers.losses import Loss
from convscope.registry import Registry

Run = Callable[..., Tensor]
"""(subject, options…) → one number a pixel: (n, c, h, w) in the input's shape, or (n, 1, h, w)."""

R = TypeVar("R", bound=Run)


@dataclasses.dataclass(frozen=True)
class Method:
    """``run`` with its ``options`` and their defaults; ``layer`` says whether it looks at a layer's maps.

    ``honest``: the map follows the weights. Where it does not, randomising the layers behind the first barely changes
    the map (Adebayo et al. 2018), which then shows edges of the picture rather than what the network learned.
    ``adds_up``: the map shares out the score's rise from a baseline among the pixels, so that its sum can be checked.
    ``quick`` are options for who needs many maps and no great precision.
    """

    name: str
    run: Run
    layer: bool
    honest: bool = True
    adds_up: bool = False
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        return (inspect.getdoc(self.run) or "").splitlines()[0].rstrip(".")

    @property
    def options(self) -> dict[str, Any]:
        parameters = inspect.signature(self.run).parameters
        return {name: each.default for name, each in parameters.items() if name not in ("subject", "layer")}


METHODS: Registry[Method] = Registry("method", "convscope.inspect.attribution.methods")


def method(honest: bool = True, adds_up: bool = False, **quick: Any) -> Callable[[R], R]:
    """Enrol a function under its own name; the rest as in ``Method``."""

    def enrol(run: R) -> R:
        layer = "layer" in inspect.signature(run).parameters
        METHODS.add(run.__name__, Method(run.__name__, run, layer, honest, adds_up, quick))
        return run

    return enrol


@torch.no_grad()
def attribute(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    method: str = "grad_cam",
    layer: str | None = None,
    *,
    loss: str | Loss | None = None,
    stopped: Callable[[], bool] | None = None,
    **options: Any,
) -> Tensor:
    """Which part of ``x`` speaks for ``target``: a number for each pixel, (n, c, h, w) like x or (n, 1, h, w).

    ``x`` is a batch, or one example without the batch (so is the map then), as the model takes it. ``target`` is a
    class (number or name; None: the one that the model says itself), one a picture, or a ``Place``: a unit, map or box
    of any layer. ``method`` is one of ``METHODS``, ``options`` are its own; ``layer`` is where Grad-CAM looks. ``loss``
    says which score decides between classes, where the architecture does not. ``stopped()`` is asked now and then.

    The graph is taken back by the rules: no hooks, nothing of the model is changed, functional, in-place and reused
    rectifiers are seen like any other. The model runs in evaluation mode. Raises UnknownNameError for a method, layer
    or option that does not exist, ArgumentError for a target or method that this model does not allow, StoppedError.
    """
    found = METHODS[method]
    for name in options:
        if name not in found.options:
            raise UnknownNameError(f"option of {method}", name, found.options)
    if layer is not None:
        if not found.layer:
            raise ArgumentError("layer", layer, f"none for {method}, which looks at the input itself")
        options["layer"] = layer
    with looking(model):
        subject = Subject(model, x, target, loss, stopped)
        result = found.run(subject, **options)
    return result[0] if subject.x.ndim == x.ndim + 1 else result
