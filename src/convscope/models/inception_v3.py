"""Inception-v3: convolutions factored into smaller and one-sided ones.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convscope.errors import ArgumentError
from convscope.layers import AuxiliaryOutputs
from convscope.models.blocks import ConvBnRelu, start, truncated
from convscope.models.catalog import Card, register
from convscope.shapes import pair


class InceptionA(nn.Module):
    """1×1; 5×5; two 3×3; pooled 1×1 side by side. 35×35 maps, 224 + ``pooled`` of them."""

    def __init__(self, in_channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBnRelu(in_channels, 64, 1)
        self.branch5x5_1 = ConvBnRelu(in_channels, 48, 1)
        self.branch5x5_2 = ConvBnRelu(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBnRelu(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvBnRelu(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBnRelu(96, 96, 3, padding=1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvBnRelu(in_channels, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(self.pool(x))], 1)


class InceptionB(nn.Module):
    """Halves the maps: 3×3/2; two 3×3 with stride 2; 3×3/2 max pooling. 35×35 → 17×17, 480 maps more."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBnRelu(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBnRelu(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvBnRelu(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBnRelu(96, 96, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, self.pool(x)], 1)


class InceptionC(nn.Module):
    """7×7 factored into 1×7 and 7×1, once and twice. 17×17 maps, 768 of them; ``maps`` in the narrow layers."""

    def __init__(self, in_channels: int, maps: int) -> None:
        super().__init__()
        wide, tall = {"kernel_size": (1, 7), "padding": (0, 3)}, {"kernel_size": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvBnRelu(in_channels, 192, 1)
        self.branch7x7_1 = ConvBnRelu(in_channels, maps, 1)
        self.branch7x7_2 = ConvBnRelu(maps, maps, **wide)
        self.branch7x7_3 = ConvBnRelu(maps, 192, **tall)
        self.branch7x7dbl_1 = ConvBnRelu(in_channels, maps, 1)
        self.branch7x7dbl_2 = ConvBnRelu(maps, maps, **tall)
        self.branch7x7dbl_3 = ConvBnRelu(maps, maps, **wide)
        self.branch7x7dbl_4 = ConvBnRelu(maps, maps, **tall)
        self.branch7x7dbl_5 = ConvBnRelu(maps, 192, **wide)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvBnRelu(in_channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(self.pool(x))], 1)


class InceptionD(nn.Module):
    """Halves the maps: 3×3/2; 1×7, 7×1, 3×3/2; 3×3/2 max pooling. 17×17 → 8×8, 512 maps more."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBnRelu(in_channels, 192, 1)
        self.branch3x3_2 = ConvBnRelu(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBnRelu(in_channels, 192, 1)
        self.branch7x7x3_2 = ConvBnRelu(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvBnRelu(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvBnRelu(192, 192, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, self.pool(x)], 1)


class InceptionE(nn.Module):
    """Wide ends: 3×3 split into 1×3 and 3×1 side by side. 8×8 maps, 2,048 of them."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBnRelu(in_channels, 320, 1)
        self.branch3x3_1 = ConvBnRelu(in_channels, 384, 1)
        self.branch3x3_2a = ConvBnRelu(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBnRelu(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBnRelu(in_channels, 448, 1)
        self.branch3x3dbl_2 = ConvBnRelu(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBnRelu(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBnRelu(384, 384, (3, 1), padding=(1, 0))
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvBnRelu(in_channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(parts, 1)


class Auxiliary(nn.Module):
    """The side classifier on the 17×17 maps: 5×5/3 mean, 1×1 to 128 maps, 5×5 to 768, global mean, linear."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv0 = ConvBnRelu(in_channels, 128, 1)
        self.conv1 = ConvBnRelu(128, 768, 5)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(768, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.conv1(self.conv0(self.pool(x))))
        y: torch.Tensor = self.fc(torch.flatten(x, 1))
        return y


class InceptionV3(nn.Module):
    """Input (n, c, h, w), output logits (n, classes); in training with ``auxiliary`` ``AuxiliaryOutputs``."""

    def __init__(self, classes: int, in_channels: int, auxiliary: bool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBnRelu(in_channels, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBnRelu(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBnRelu(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = ConvBnRelu(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBnRelu(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits = Auxiliary(768, classes) if auxiliary else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(2048, classes)
        start(self, conv=truncated(0.1), linear=truncated(0.1))
        if self.AuxLogits is not None:
            truncated(0.001)(self.AuxLogits.fc.weight)  # as torchvision does, where the setting for conv1 has no effect

    def forward(self, x: torch.Tensor) -> torch.Tensor | AuxiliaryOutputs:
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.avgpool(self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle))))
        logits: torch.Tensor = self.fc(torch.flatten(self.dropout(x), 1))
        if self.training and self.AuxLogits is not None:
            return AuxiliaryOutputs(logits, (self.AuxLogits(middle),), 0.4)
        return logits


@register(
    "inception_v3",
    Card(
        title="Inception-v3",
        year=2015,
        paper="Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, CVPR 2016",
        input_shape=(3, 299, 299),
        classes=1000,
        parameters=27_161_264,
        published="ImageNet 2012 top-1 error 21.2 %, top-5 5.6 % (one crop)",
        note="torchvision's layout and state-dict keys; its published weights expect pictures normalised by mean and "
        "deviation 0.5; auxiliary=False leaves out the side classifier (23,834,568 "
        "parameters) and takes pictures from 75×75 on",
        family="inception",
        economical=(("auxiliary", False), ("input_size", 75)),
    ),
)
def inception_v3(
    classes: int = 1000, in_channels: int = 3, auxiliary: bool = True, input_size: int | Sequence[int] = 299
) -> nn.Module:
    """299×299 → 64@147 → 192@71 → 288@35 → 768@17 → 2048@8 → global mean → classes.

    In training the side classifier's loss counts 0.4. It needs maps of 17×17, so pictures smaller than 299×299 (down to
    75×75) go with ``auxiliary=False`` only.
    """
    least = 299 if auxiliary else 75
    if min(pair(input_size, "input_size")) < least:
        hint = "auxiliary=False takes pictures from 75×75 on." if auxiliary else ""
        raise ArgumentError("input_size", input_size, f"at least {least}", hint)
    return InceptionV3(classes, in_channels, auxiliary)
