"""DenseNet: every layer sees the maps of all layers before it.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, start
from convscope.models.catalog import Builder, Card, register

PAPER = "Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017"


class DenseLayer(nn.Module):
    """Normalise, ReLU, 1×1 to 4·growth maps; normalise, ReLU, 3×3 to ``growth`` new maps."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(self.relu1(self.norm1(x)))
        new: torch.Tensor = self.conv2(self.relu2(self.norm2(y)))
        return new


class DenseBlock(nn.Module):
    """``depth`` dense layers, each on the maps of the block's input and of all layers before it."""

    def __init__(self, in_channels: int, depth: int, growth: int) -> None:
        super().__init__()
        for number in range(depth):
            self.add_module(f"denselayer{number + 1}", DenseLayer(in_channels + number * growth, growth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


def transition(in_channels: int, maps: int) -> nn.Sequential:
    """Normalise, ReLU, 1×1 to ``maps``, 2×2 mean pooling."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(in_channels, maps, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


class DenseNet(nn.Module):
    """A stem, four dense blocks with transitions between; state-dict keys as torchvision's.

    Input (n, c, h, w), output (n, classes). ``small`` is the paper's stem for 32×32: 3×3 of stride 1, no pooling.
    """

    def __init__(
        self, growth: int, depths: Sequence[int], stem: int, classes: int, in_channels: int, small: bool
    ) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module]()
        if small:
            layers["conv0"] = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        else:
            layers["conv0"] = nn.Conv2d(in_channels, stem, 7, 2, padding=3, bias=False)
        layers["norm0"] = nn.BatchNorm2d(stem)
        layers["relu0"] = nn.ReLU()
        if not small:
            layers["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
        maps = stem
        for number, depth in enumerate(depths, 1):
            layers[f"denseblock{number}"] = DenseBlock(maps, depth, growth)
            maps += depth * growth
            if number < len(depths):
                layers[f"transition{number}"] = transition(maps, maps // 2)
                maps //= 2
        layers["norm5"] = nn.BatchNorm2d(maps)
        self.features = nn.Sequential(layers)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(maps, classes)
        start(self, conv=nn.init.kaiming_normal_, zero_bias=(nn.Linear,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.relu(self.features(x)))
        y: torch.Tensor = self.classifier(torch.flatten(x, 1))
        return y


def _builder(growth: int, depths: Sequence[int], stem: int) -> Builder:
    def build(classes: int = 1000, in_channels: int = 3, small: bool = False) -> nn.Module:
        """224×224 → stem@56 → dense blocks at 56, 28, 14, 7 → global mean → classes.

        ``small=True`` is for 32×32: a 3×3 stem of stride 1 without pooling, dense blocks at 32, 16, 8, 4.
        """
        return DenseNet(growth, depths, stem, classes, in_channels, small)

    return build


def _enrol(depth: int, growth: int, depths: Sequence[int], stem: int, parameters: int, published: str) -> None:
    card = Card(
        title=f"DenseNet-{depth} (growth {growth})",
        year=2016,
        paper=PAPER,
        input_shape=IMAGENET,
        classes=1000,
        parameters=parameters,
        published=published,
        note="torchvision's layout and state-dict keys",
        family="densenet",
        minimum_size=32,
    )
    register(f"densenet{depth}", card)(_builder(growth, depths, stem))


_enrol(121, 32, (6, 12, 24, 16), 64, 7_978_856, "ImageNet top-1 error 25.02 % (one crop)")
_enrol(161, 48, (6, 12, 36, 24), 96, 28_681_000, "ImageNet top-1 error 22.2 % (authors' weights)")
_enrol(169, 32, (6, 12, 32, 32), 64, 14_149_480, "ImageNet top-1 error 23.80 % (one crop)")
_enrol(201, 32, (6, 12, 48, 32), 64, 20_013_928, "ImageNet top-1 error 22.58 % (one crop)")
