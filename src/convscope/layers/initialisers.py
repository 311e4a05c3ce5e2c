"""Random initialisation of a model's weights by name, the same on every machine for the same seed.

With n_in and n_out a unit's fan-in and fan-out:

====================  ==========================================================================================
lecun_uniform         U(±2.4/n_in)                      LeCun et al. 1998, appendix A of the LeNet-5 paper
lecun_normal          N(0, 1/n_in)                      LeCun et al. 1998, "Efficient BackProp"
glorot_uniform        U(±√(6/(n_in + n_out)))           Glorot and Bengio 2010
glorot_normal         N(0, 2/(n_in + n_out))            the same
he_uniform            U(±√(6/n_in))                     He et al. 2015, for ReLU
he_normal             N(0, 2/n_in)                      the same
uniform               U(±scale), scale 0.05             the plain choice
normal                N(0, scale²), scale 0.01          Krizhevsky et al. 2012
====================  ==========================================================================================

Biases become 0; normalisation layers, subsampling coefficients and fixed codes keep their own start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from convscope import seeding
from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.combined import CombinedConv2d
from convscope.layers.conv import TableConv2d
from convscope.layers.locally_connected import LocallySharedConv2d

Fan = float | torch.Tensor
Draw = Callable[[Fan, Fan, float], Fan]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_OWN_FANS = (TableConv2d, CombinedConv2d, LocallySharedConv2d)

#: name → (distribution, its bound or deviation from n_in, n_out and scale, scale by default)
INITIALISERS: dict[str, tuple[str, Draw, float]] = {
    "lecun_uniform": ("uniform", lambda n_in, n_out, scale: scale / n_in, 2.4),
    "lecun_normal": ("normal", lambda n_in, n_out, scale: scale * n_in**-0.5, 1.0),
    "glorot_uniform": ("uniform", lambda n_in, n_out, scale: scale * (6 / (n_in + n_out)) ** 0.5, 1.0),
    "glorot_normal": ("normal", lambda n_in, n_out, scale: scale * (2 / (n_in + n_out)) ** 0.5, 1.0),
    "he_uniform": ("uniform", lambda n_in, n_out, scale: scale * (6 / n_in) ** 0.5, 1.0),
    "he_normal": ("normal", lambda n_in, n_out, scale: scale * (2 / n_in) ** 0.5, 1.0),
    "uniform": ("uniform", lambda n_in, n_out, scale: scale, 0.05),
    "normal": ("normal", lambda n_in, n_out, scale: scale, 0.01),
}


def fans(module: nn.Module) -> tuple[Fan, Fan] | None:
    """(n_in, n_out) of a unit of ``module``, per weight where they differ; None for a module without such weights."""
    if isinstance(module, nn.Linear):
        return float(module.in_features), float(module.out_features)
    if isinstance(module, _OWN_FANS):
        return module.fans()
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        area = float(math.prod(module.kernel_size))
        return module.in_channels // module.groups * area, module.out_channels // module.groups * area
    return None


@runtime_checkable
class OwnStart(Protocol):
    """A module of which some parameters do not begin by chance: up-sampling that begins bilinear, for one."""

    def own_start(self) -> None:
        """Set these."""
        ...


def initialise(model: nn.Module, name: str, seed: int | None = None, scale: float | None = None) -> nn.Module:
    """Draw all weights of ``model`` anew by initialiser ``name`` and return it; biases become 0. What a module begins
    with by its nature is restored after that (``OwnStart``).

    Each module has its own random stream, from ``seed`` and its name in the model; without a seed, torch's global
    generator is drawn from, as torch's own layers do. ``scale`` replaces the formula's constant: the bound of
    "uniform", the deviation of "normal", 2.4 of "lecun_uniform", a factor elsewhere.
    Raises UnknownNameError for another name, ArgumentError for a scale that is not above 0.
    """
    if name not in INITIALISERS:
        raise UnknownNameError("initialiser", name, INITIALISERS)
    distribution, spread_of, default = INITIALISERS[name]
    if scale is not None and not 0 < scale < math.inf:
        raise ArgumentError("scale", scale, "a finite number above 0")
    with torch.no_grad():
        for path, module in model.named_modules():
            found = fans(module)
            if found is None:
                continue
            spread = spread_of(*found, default if scale is None else scale)
            weight, bias = module.weight, module.bias
            assert isinstance(weight, torch.Tensor)
            stream = None if seed is None else seeding.generator(seed, "initialise", path)
            draw = torch.empty(weight.shape, device="cpu")  # always here, so that a GPU starts from the same weights
            if distribution == "uniform":
                draw.uniform_(-1, 1, generator=stream)
            else:
                draw.normal_(0, 1, generator=stream)
            weight.copy_(draw).mul_(spread)
            if isinstance(bias, torch.Tensor):
                bias.zero_()
        for module in model.modules():
            if isinstance(module, OwnStart):
                module.own_start()
    return model
