"""ResNet and ResNeXt: layers that learn what to add to their input.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016.
Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, he_fan_out, start
from convscope.models.catalog import Builder, Card, register

PAPER = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016"


def _conv3x3(in_channels: int, maps: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, maps, 3, stride, padding=1, groups=groups, bias=False)


def _conv1x1(in_channels: int, maps: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, maps, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """y = relu(x + F(x)), F two 3×3 convolutions; ``downsample`` projects x where the shapes differ."""

    expansion = 1

    def __init__(
        self, in_channels: int, maps: int, stride: int, downsample: nn.Module | None, groups: int, width: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, maps, stride)
        self.bn1 = nn.BatchNorm2d(maps)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(maps, maps)
        self.bn2 = nn.BatchNorm2d(maps)
        self.downsample = downsample
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: torch.Tensor = self.relu2(y + shortcut)
        return out


class Bottleneck(nn.Module):
    """y = relu(x + F(x)), F a 1×1, a 3×3 (with the stride, as in torchvision) and a 1×1 convolution."""

    expansion = 4

    def __init__(
        self, in_channels: int, maps: int, stride: int, downsample: nn.Module | None, groups: int, width: int
    ) -> None:
        super().__init__()
        inner = maps * width // 64 * groups
        self.conv1 = _conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(inner, inner, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = _conv1x1(inner, maps * 4)
        self.bn3 = nn.BatchNorm2d(maps * 4)
        self.downsample = downsample
        self.relu3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: torch.Tensor = self.relu3(y + shortcut)
        return out


class ResNet(nn.Module):
    """A stem and four stages of residual blocks; state-dict keys as torchvision's.

    Input (n, c, h, w), output (n, classes). ``small`` is the paper's stem for 32×32: 3×3 of stride 1, no pooling.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        classes: int,
        in_channels: int,
        small: bool,
        groups: int = 1,
        width: int = 64,
    ) -> None:
        super().__init__()
        if small:
            self.conv1 = _conv3x3(in_channels, 64)
        else:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self._channels = 64
        self.layer1 = self._stage(block, 64, depths[0], 1, groups, width)
        self.layer2 = self._stage(block, 128, depths[1], 2, groups, width)
        self.layer3 = self._stage(block, 256, depths[2], 2, groups, width)
        self.layer4 = self._stage(block, 512, depths[3], 2, groups, width)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, classes)
        start(self, conv=he_fan_out)

    def _stage(
        self, block: type[BasicBlock] | type[Bottleneck], maps: int, depth: int, stride: int, groups: int, width: int
    ) -> nn.Sequential:
        blocks: list[nn.Module] = []
        for number in range(depth):
            downsample = None
            step = stride if number == 0 else 1
            if step != 1 or self._channels != maps * block.expansion:
                projection = _conv1x1(self._channels, maps * block.expansion, step)
                downsample = nn.Sequential(projection, nn.BatchNorm2d(maps * block.expansion))
            blocks.append(block(self._channels, maps, step, downsample, groups, width))
            self._channels = maps * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return y


def _builder(block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int], groups: int, width: int) -> Builder:
    def build(classes: int = 1000, in_channels: int = 3, small: bool = False) -> nn.Module:
        """224×224 → stem 64@56 → 56 → 28 → 14 → 7 → global mean → classes.

        ``small=True`` is for 32×32: a 3×3 stem of stride 1 without pooling, so 32 → 16 → 8 → 4.
        """
        return ResNet(block, depths, classes, in_channels, small, groups, width)

    return build


def _enrol(
    name: str,
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    parameters: int,
    published: str,
    groups: int = 1,
    width: int = 64,
) -> None:
    aggregated = groups > 1
    depth = sum(depths) * (2 if block is BasicBlock else 3) + 2
    card = Card(
        title=f"ResNeXt-{depth} {groups}×{width}d" if aggregated else f"ResNet-{depth}",
        year=2016 if aggregated else 2015,
        paper="Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017"
        if aggregated
        else PAPER,
        input_shape=IMAGENET,
        classes=1000,
        parameters=parameters,
        published=published,
        note="torchvision's layout and state-dict keys"
        + ("" if block is BasicBlock else "; the stride is in the 3×3 convolution, in the paper in the first 1×1"),
        family="resnet",
        minimum_size=32,
    )
    register(name, card)(_builder(block, depths, groups, width))


_enrol("resnet18", BasicBlock, (2, 2, 2, 2), 11_689_512, "ImageNet top-1 error 27.88 % (ten crops)")
_enrol("resnet34", BasicBlock, (3, 4, 6, 3), 21_797_672, "ImageNet top-1 error 24.52 % (ten crops, option B)")
_enrol("resnet50", Bottleneck, (3, 4, 6, 3), 25_557_032, "ImageNet top-1 error 22.85 % (ten crops)")
_enrol("resnet101", Bottleneck, (3, 4, 23, 3), 44_549_160, "ImageNet top-1 error 21.75 % (ten crops)")
_enrol("resnet152", Bottleneck, (3, 8, 36, 3), 60_192_808, "ImageNet top-1 error 21.43 % (ten crops)")
_enrol("resnext50_32x4d", Bottleneck, (3, 4, 6, 3), 25_028_904, "ImageNet top-1 error 22.2 % (one crop)", 32, 4)
