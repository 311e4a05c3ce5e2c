"""SqueezeNet: AlexNet's accuracy with fifty times fewer parameters.

Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, 2016.
"""

from __future__ import annotations

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, normal, start
from convscope.models.catalog import Card, register


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

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()

        def halve() -> nn.MaxPool2d:
            return nn.MaxPool2d(3, stride=2, ceil_mode=True)

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 7, stride=2),
            nn.ReLU(),
            halve(),
            Fire(96, 16, 64),
            Fire(128, 16, 64),
            Fire(128, 32, 128),
            halve(),
            Fire(256, 32, 128),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            halve(),
            Fire(512, 64, 256),
        )
        last = nn.Conv2d(512, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)))
        start(self, conv=nn.init.kaiming_uniform_, zero_bias=(nn.Conv2d,))
        normal(0.01)(last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


@register(
    "squeezenet1_0",
    Card(
        title="SqueezeNet 1.0",
        year=2016,
        paper="Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016",
        input_shape=IMAGENET,
        classes=1000,
        parameters=1_248_424,
        published="ImageNet top-1 57.5 %, top-5 80.3 %",
        note="torchvision's layout and state-dict keys",
        family="squeezenet",
        minimum_size=32,
    ),
)
def squeezenet1_0(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """224×224 → 96@54 → 256@27 → 512@13 → classes@13 → global mean."""
    return SqueezeNet(classes, in_channels)
