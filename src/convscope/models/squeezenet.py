"""SqueezeNet: AlexNet's accuracy with fifty times fewer parameters.

Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, normal, start
from convscope.models.catalog import Builder, Card, register


class Fire(nn.Module):
    """Squeeze to few maps by 1×1, then expand by 1×1 and 3×3 side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        one = self.expand1x1_activation(self.expand1x1(x))
        three = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([one, three], 1)


class SqueezeNet(nn.Module):
    """Input (n, c, h, w), output (n, classes); state-dict keys as torchvision's."""

    def __init__(self, features: Sequence[nn.Module], classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        last = nn.Conv2d(512, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)))
        start(self, conv=nn.init.kaiming_uniform_, zero_bias=(nn.Conv2d,))
        normal(0.01)(last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


def _halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def squeezenet1_0(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """224×224 → 96@109 → 96@54 → 256@27 → 512@13 → classes@13 → global mean."""
    features = [nn.Conv2d(in_channels, 96, 7, stride=2), nn.ReLU(), _halve()]
    features += [Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), _halve()]
    features += [Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), _halve()]
    return SqueezeNet([*features, Fire(512, 64, 256)], classes)


def squeezenet1_1(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """224×224 → 64@111 → 64@55 → 128@27 → 256@13 → 512@13 → classes@13 → global mean.

    The authors' second edition: a smaller first layer and earlier pooling, 2.4 times fewer multiply-adds than 1.0.
    """
    features = [nn.Conv2d(in_channels, 64, 3, stride=2), nn.ReLU(), _halve()]
    features += [Fire(64, 16, 64), Fire(128, 16, 64), _halve()]
    features += [Fire(128, 32, 128), Fire(256, 32, 128), _halve()]
    features += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    return SqueezeNet(features, classes)


def _enrol(edition: str, build: Builder, parameters: int, published: str) -> None:
    card = Card(
        title=f"SqueezeNet {edition}",
        year=2016,
        paper="Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016",
        input_shape=IMAGENET,
        classes=1000,
        parameters=parameters,
        published=published,
        note="torchvision's layout and state-dict keys",
        family="squeezenet",
        minimum_size=32,
    )
    register(f"squeezenet{edition.replace('.', '_')}", card)(build)


_enrol("1.0", squeezenet1_0, 1_248_424, "ImageNet top-1 57.5 %, top-5 80.3 %")
_enrol("1.1", squeezenet1_1, 1_235_496, "ImageNet top-1 57.5 %, top-5 80.3 %, 2.4 times less work than 1.0")
