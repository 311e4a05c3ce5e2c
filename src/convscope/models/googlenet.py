"""GoogLeNet: torchvision's layout with both auxiliary classifiers, and the textbook's for grey pictures.

Szegedy et al.: Going Deeper with Convolutions, CVPR 2015.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from convscope.layers import AuxiliaryOutputs
from convscope.models.blocks import IMAGENET, Branches, ConvBnRelu, start, truncated
from convscope.models.catalog import Card, register

PAPER = "Szegedy et al.: Going Deeper with Convolutions, CVPR 2015"

#: name → (input maps, 1×1, (reduced, 3×3), (reduced, 5×5), pool projection), the paper's Table 1.
MODULES: dict[str, tuple[int, int, tuple[int, int], tuple[int, int], int]] = {
    "inception3a": (192, 64, (96, 128), (16, 32), 32),
    "inception3b": (256, 128, (128, 192), (32, 96), 64),
    "inception4a": (480, 192, (96, 208), (16, 48), 64),
    "inception4b": (512, 160, (112, 224), (24, 64), 64),
    "inception4c": (512, 128, (128, 256), (24, 64), 64),
    "inception4d": (512, 112, (144, 288), (32, 64), 64),
    "inception4e": (528, 256, (160, 320), (32, 128), 128),
    "inception5a": (832, 256, (160, 320), (32, 128), 128),
    "inception5b": (832, 384, (192, 384), (48, 128), 128),
}


def inception(name: str) -> Branches:
    """One module with batch normalisation. The third branch's kernels are 3×3, not the paper's 5×5: torchvision's
    published weights are so, and load only so."""
    maps, one, (reduce3, three), (reduce5, five), pooled = MODULES[name]
    return Branches(
        branch1=ConvBnRelu(maps, one, 1),
        branch2=nn.Sequential(ConvBnRelu(maps, reduce3, 1), ConvBnRelu(reduce3, three, 3, padding=1)),
        branch3=nn.Sequential(ConvBnRelu(maps, reduce5, 1), ConvBnRelu(reduce5, five, 3, padding=1)),
        branch4=nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvBnRelu(maps, pooled, 1)),
    )


class Auxiliary(nn.Module):
    """A side classifier: mean to 4×4, 1×1 convolution to 128 maps, 1,024 hidden units, dropout 0.7."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.conv = ConvBnRelu(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.conv(self.avgpool(x)), 1)  # (n, 2048)
        y: torch.Tensor = self.fc2(self.dropout(self.relu(self.fc1(x))))
        return y


class GoogLeNet(nn.Module):
    """Input (n, c, h, w), output logits (n, classes); in training with auxiliary classifiers ``AuxiliaryOutputs``."""

    def __init__(self, classes: int, in_channels: int, auxiliary: bool, small: bool) -> None:
        super().__init__()
        self.conv1 = ConvBnRelu(in_channels, 64, 3, padding=1) if small else ConvBnRelu(in_channels, 64, 7, 2, 3)
        self.maxpool1 = _halve(3)
        self.conv2 = ConvBnRelu(64, 64, 1)
        self.conv3 = ConvBnRelu(64, 192, 3, padding=1)
        self.maxpool2 = nn.Identity() if small else _halve(3)
        self.inception3a = inception("inception3a")
        self.inception3b = inception("inception3b")
        self.maxpool3 = _halve(3)
        self.inception4a = inception("inception4a")
        self.inception4b = inception("inception4b")
        self.inception4c = inception("inception4c")
        self.inception4d = inception("inception4d")
        self.inception4e = inception("inception4e")
        self.maxpool4 = _halve(2)
        self.inception5a = inception("inception5a")
        self.inception5b = inception("inception5b")
        self.aux1 = Auxiliary(512, classes) if auxiliary else None
        self.aux2 = Auxiliary(528, classes) if auxiliary else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, classes)
        start(self, conv=truncated(0.01), linear=truncated(0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor | AuxiliaryOutputs:
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.maxpool4(self.inception4e(second))
        x = self.avgpool(self.inception5b(self.inception5a(x)))
        logits: torch.Tensor = self.fc(self.dropout(torch.flatten(x, 1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return AuxiliaryOutputs(logits, (self.aux1(first), self.aux2(second)), 0.3)
        return logits


def _halve(size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, stride=2, ceil_mode=True)


@register(
    "googlenet",
    Card(
        title="GoogLeNet (Inception-v1)",
        year=2014,
        paper=PAPER,
        input_shape=IMAGENET,
        classes=1000,
        parameters=13_004_888,
        published="ImageNet 2014 top-5 error 6.67 % (seven models, 144 crops)",
        note="torchvision's layout and state-dict keys: batch normalisation, 3×3 instead of 5×5; its published weights "
        "expect pictures normalised by mean and deviation 0.5; auxiliary=False leaves out the two side classifiers",
        family="inception",
        minimum_size=32,
    ),
)
def googlenet(
    classes: int = 1000, in_channels: int = 3, auxiliary: bool | None = None, small: bool = False
) -> nn.Module:
    """224×224 → 64@112 → 192@56 → 480@28 → 832@14 → 1024@7 → global mean → classes.

    In training the two side classifiers' losses count 0.3 each. ``small=True`` is for 32×32: a 3×3 first layer of
    stride 1 and one early pooling instead of two, so that the maps of the inception modules are 16, 8 and 4 on a side
    (without any, 32, 16 and 8, a picture would cost 1.5 instead of 0.4 billion multiply-adds); no side classifiers
    unless asked for.
    """
    return GoogLeNet(classes, in_channels, not small if auxiliary is None else auxiliary, small)


def _plain_conv(in_channels: int, maps: int, kernel_size: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, maps, kernel_size, stride, padding), nn.ReLU()]


def _plain_inception(name: str) -> Branches:
    """One module as printed in the paper: 5×5 kernels, biases, no batch normalisation."""
    maps, one, (reduce3, three), (reduce5, five), pooled = MODULES[name]
    return Branches(
        branch1=nn.Sequential(*_plain_conv(maps, one, 1)),
        branch2=nn.Sequential(*_plain_conv(maps, reduce3, 1), *_plain_conv(reduce3, three, 3, padding=1)),
        branch3=nn.Sequential(*_plain_conv(maps, reduce5, 1), *_plain_conv(reduce5, five, 5, padding=2)),
        branch4=nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_plain_conv(maps, pooled, 1)),
    )


@register(
    "googlenet_gray",
    Card(
        title="GoogLeNet of the textbook",
        year=2014,
        paper=PAPER,
        input_shape=(1, 96, 96),
        classes=10,
        parameters=5_977_530,
        published="Fashion-MNIST in Dive into Deep Learning",
        note="one grey channel, ten classes, no batch normalisation, no side classifiers",
        family="inception",
        minimum_size=32,
    ),
)
def googlenet_gray(classes: int = 10, in_channels: int = 1) -> nn.Module:
    """96×96 → 64@48 → 192@24 → 480@12 → 832@6 → 1024@3 → global mean → classes."""
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Sequential(*_plain_conv(in_channels, 64, 7, 2, 3)),
        maxpool1=nn.MaxPool2d(3, stride=2, padding=1),
        conv2=nn.Sequential(*_plain_conv(64, 64, 1)),
        conv3=nn.Sequential(*_plain_conv(64, 192, 3, padding=1)),
        maxpool2=nn.MaxPool2d(3, stride=2, padding=1),
    )
    for name in MODULES:
        if name.endswith("a") and name != "inception3a":
            layers[f"maxpool{int(name[-2]) - 1}"] = nn.MaxPool2d(3, stride=2, padding=1)
        layers[name] = _plain_inception(name)
    layers["avgpool"] = nn.AdaptiveAvgPool2d((1, 1))
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(1024, classes)
    return nn.Sequential(layers)
