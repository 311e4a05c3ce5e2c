"""Xception: Inception taken to its end, every map filtered on its own and then mixed by 1×1.

Chollet: Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from convscope.models.blocks import he_fan_out, start
from convscope.models.catalog import Card, register


class SeparableConv2d(nn.Module):
    """A 3×3 convolution of each map, then a 1×1 convolution over maps."""

    def __init__(self, in_channels: int, maps: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, maps, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.pointwise(self.conv1(x))
        return y


class Block(nn.Module):
    """``repeats`` of (ReLU, separable convolution, normalisation), 3×3/2 max pooling when ``stride`` is 2, plus a skip.

    ``grow_first``: the first convolution, else the last, changes the number of maps.
    """

    def __init__(
        self,
        in_channels: int,
        maps: int,
        repeats: int,
        stride: int = 1,
        start_with_relu: bool = True,
        grow_first: bool = True,
    ) -> None:
        super().__init__()
        projects = maps != in_channels or stride != 1
        self.skip = nn.Conv2d(in_channels, maps, 1, stride, bias=False) if projects else nn.Identity()
        self.skipbn = nn.BatchNorm2d(maps) if projects else nn.Identity()
        widths = [in_channels] + [maps if grow_first else in_channels] * (repeats - 1) + [maps]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.ReLU(), SeparableConv2d(before, after), nn.BatchNorm2d(after)]
        layers = layers if start_with_relu else layers[1:]
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.rep = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.rep(x) + self.skipbn(self.skip(x))
        return y


class Xception(nn.Module):
    """Input (n, c, h, w) from 71×71 on, output (n, classes)."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu2 = nn.ReLU()
        self.block1 = Block(64, 128, 2, stride=2, start_with_relu=False)
        self.block2 = Block(128, 256, 2, stride=2)
        self.block3 = Block(256, 728, 2, stride=2)
        for number in range(4, 12):
            self.add_module(f"block{number}", Block(728, 728, 3))
        self.block12 = Block(728, 1024, 2, stride=2, grow_first=False)
        self.conv3 = SeparableConv2d(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.relu3 = nn.ReLU()
        self.conv4 = SeparableConv2d(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048)
        self.relu4 = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.last_linear = nn.Linear(2048, classes)
        start(self, conv=he_fan_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        for number in range(1, 13):
            x = self.get_submodule(f"block{number}")(x)
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.relu4(self.bn4(self.conv4(x)))
        y: torch.Tensor = self.last_linear(torch.flatten(self.avgpool(x), 1))
        return y


@register(
    "xception",
    Card(
        title="Xception",
        year=2016,
        paper="Chollet: Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017",
        input_shape=(3, 299, 299),
        classes=1000,
        parameters=22_855_952,
        published="ImageNet top-1 79.0 %, top-5 94.5 % (one crop)",
        note="layout of the published weights as ported to PyTorch",
        family="inception",
        minimum_size=71,
    ),
)
def xception(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """299×299 → 64@147 → 128@74 → 256@37 → 728@19, nine times → 1024@10 → 2048@10 → global mean → classes."""
    return Xception(classes, in_channels)
