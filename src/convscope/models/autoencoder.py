"""Sparse autoencoders, and the classifier that is stacked of their encoders.

Xue: Convolutional Neural Networks (2016), after Ng's lecture notes on sparse autoencoders (2011).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register

PAPER = "Ng: Sparse autoencoder, CS294A lecture notes, 2011; Xue: Convolutional Neural Networks, lecture slides, 2016"


class Autoencoder(nn.Module):
    """a = σ(W·x + b),   y = σ(V·a + c),   V = Wᵀ where the weights are tied.

    ``below`` are layers that were trained before, whose output is what is then coded; they stay as they are. Input
    (n, channels, height, width); output (y, a, x): the reconstruction (n, features), the code (n, units), and what was
    to be reconstructed (n, features).
    """

    def __init__(self, features: int, units: int, below: Sequence[int] = (), tied: bool = False) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.below = nn.Sequential(OrderedDict(_encoders(features, below)))
        inner = below[-1] if below else features
        self.encoder = nn.Linear(inner, units)
        self.activation = nn.Sigmoid()
        self.tied = tied
        if tied:
            self.decoder_bias = nn.Parameter(torch.zeros(inner))
        else:
            self.decoder = nn.Linear(units, inner)
        self.output = nn.Sigmoid()
        for parameter in self.below.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.below(self.flatten(x)).detach()
        code = self.activation(self.encoder(x))
        u = F.linear(code, self.encoder.weight.t(), self.decoder_bias) if self.tied else self.decoder(code)
        return self.output(u), code, x


def _encoders(features: int, units: Sequence[int]) -> list[tuple[str, nn.Module]]:
    """encoder1, sigmoid1, encoder2, …"""
    layers: list[tuple[str, nn.Module]] = []
    for place, width in enumerate(units, 1):
        layers += [(f"encoder{place}", nn.Linear(features, width)), (f"encoder{place}_activation", nn.Sigmoid())]
        features = width
    return layers


def _start(model: nn.Module) -> nn.Module:
    """Uniform ±√(6/(fan-in + fan-out + 1)), biases 0, as the lecture notes begin."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features + 1)) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    return model


def _units(values: object, name: str) -> list[int]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentError(name, values, "a list of numbers of units, e.g. [196, 196]")
    return [whole_number(value, f"{name}[{place}]") for place, value in enumerate(values)]


@register(
    "sparse_autoencoder",
    Card(
        title="Sparse autoencoder",
        year=2011,
        paper=PAPER,
        input_shape=(1, 28, 28),
        classes=10,
        parameters=784 * 196 + 196 + 196 * 784 + 784,
        published="filters like strokes of the pen (Xue 2016, figures 31 and 33)",
        note="784-196-784; it learns without classes: `classes` is of no account",
        family="autoencoder",
        task="autoencoding",
    ),
)
def sparse_autoencoder(
    classes: int = 10,
    in_channels: int = 1,
    units: int = 196,
    tied: bool = False,
    below: Sequence[int] = (),
    input_size: int | Sequence[int] = 28,
) -> nn.Module:
    """``units`` in the hidden layer; ``below`` the units of encoders that were trained before."""
    if not isinstance(tied, bool):
        raise ArgumentError("tied", tied, "True or False")
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    return _start(Autoencoder(in_channels * height * width, whole_number(units, "units"), _units(below, "below"), tied))


@register(
    "stacked_autoencoder",
    Card(
        title="Stacked autoencoder with a softmax on top",
        year=2011,
        paper=PAPER,
        input_shape=(1, 28, 28),
        classes=10,
        parameters=2 * (784 * 784 + 784) + 784 * 10 + 10,
        published="89.34 % on MNIST before fine-tuning (Xue 2016)",
        note="784-784-784-10; `convscope train stacked_autoencoder` trains layer by layer, then all together",
        family="autoencoder",
        economical=(("units", [40, 30]),),
    ),
)
def stacked_autoencoder(
    classes: int = 10,
    in_channels: int = 1,
    units: Sequence[int] = (784, 784),
    input_size: int | Sequence[int] = 28,
) -> nn.Module:
    """784 → encoder1 784 → encoder2 784 → classes, sigmoids between."""
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    chosen = _units(units, "units")
    if not chosen:
        raise ArgumentError("units", units, "at least one layer")
    features = in_channels * height * width
    layers = [("flatten", nn.Flatten()), *_encoders(features, chosen), ("output", nn.Linear(chosen[-1], classes))]
    return _start(nn.Sequential(OrderedDict(layers)))
