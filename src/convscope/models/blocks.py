"""Blocks and starts that several papers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from convscope.layers.conv import Size

IMAGENET = (3, 224, 224)


class ConvBnRelu(nn.Module):
    """Convolution without bias, batch normalisation with ε = 0.001, ReLU: the Inception papers' unit.

    State-dict keys ``conv`` and ``bn``, as in torchvision.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0
    ) -> None:
        super().__init__()
        size, step, edge = (
            value if isinstance(value, int) else tuple(value) for value in (kernel_size, stride, padding)
        )
        self.conv = nn.Conv2d(in_channels, out_channels, size, step, edge, bias=False)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return y


class Branches(nn.Module):
    """Named branches side by side on the same input, their maps concatenated in order."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


def classifier_4096(
    in_features: int, classes: int, hidden: int = 4096, dropout_first: bool = False, dropout: float = 0.5
) -> list[nn.Module]:
    """The three fully connected layers of AlexNet and VGG, with dropout before (AlexNet) or after each hidden layer."""
    first, second = nn.Linear(in_features, hidden), nn.Linear(hidden, hidden)
    last = nn.Linear(hidden, classes)
    if dropout_first:
        return [nn.Dropout(dropout), first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU(), last]
    return [first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU(), nn.Dropout(dropout), last]


def start(
    model: nn.Module,
    conv: Callable[[torch.Tensor], object] | None = None,
    linear: Callable[[torch.Tensor], object] | None = None,
    zero_bias: Sequence[type[nn.Module]] = (),
) -> nn.Module:
    """Draw the weights of every convolution by ``conv`` and of every linear layer by ``linear``; biases of the classes
    in ``zero_bias`` become 0. Normalisation starts at 1 and 0 by itself."""
    for module in model.modules():
        draw = conv if isinstance(module, nn.Conv2d) else linear if isinstance(module, nn.Linear) else None
        if draw is not None and isinstance(module, nn.Conv2d | nn.Linear):
            draw(module.weight)
        if isinstance(module, tuple(zero_bias)) and isinstance(module.bias, nn.Parameter):
            nn.init.zeros_(module.bias)
    return model


def he_fan_out(weight: torch.Tensor) -> None:
    """N(0, 2/fan-out), He et al. 2015, as ResNet and its followers start."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def normal(deviation: float) -> Callable[[torch.Tensor], object]:
    """N(0, deviation²)."""
    return lambda weight: nn.init.normal_(weight, 0, deviation)


def truncated(deviation: float) -> Callable[[torch.Tensor], object]:
    """N(0, deviation²) cut at ±2, as the Inception models start."""
    return lambda weight: nn.init.trunc_normal_(weight, 0.0, deviation, -2.0, 2.0)


def chain(layers: Iterable[nn.Module]) -> nn.Sequential:
    """The layers one after the other."""
    return nn.Sequential(*layers)
