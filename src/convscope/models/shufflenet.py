"""ShuffleNet v1 and v2: grouped 1×1 convolutions, with the maps shuffled so that the groups exchange what they know.

Zhang, Zhou, Lin, Sun: ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, CVPR 2018.
Ma, Zhang, Zheng, Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, he_fan_out, start
from convscope.models.catalog import Builder, Card, register


def _conv_bn(
    in_channels: int, maps: int, kernel_size: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, maps, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(maps), *([nn.ReLU()] if relu else [])]


class UnitV1(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1; added to the input, or, with stride 2, put beside its mean.

    The narrow layers have a quarter of the output maps. ``first`` leaves the first 1×1 ungrouped, since the 24 maps
    before stage 2 are too few.
    """

    def __init__(self, in_channels: int, maps: int, groups: int, stride: int, first: bool = False) -> None:
        super().__init__()
        narrow = maps // 4
        grown = maps - in_channels if stride == 2 else maps
        self.compress = nn.Sequential(*_conv_bn(in_channels, narrow, 1, groups=1 if first else groups))
        self.shuffle = nn.ChannelShuffle(groups)
        self.depthwise = nn.Sequential(*_conv_bn(narrow, narrow, 3, stride, groups=narrow, relu=False))
        self.expand = nn.Sequential(*_conv_bn(narrow, grown, 1, groups=groups, relu=False))
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()
        self.relu = nn.ReLU()
        self.concatenates = stride == 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(self.depthwise(self.shuffle(self.compress(x))))
        shortcut = self.shortcut(x)
        out: torch.Tensor = self.relu(torch.cat([shortcut, y], 1) if self.concatenates else shortcut + y)
        return out


class ShuffleNetV1(nn.Module):
    """Input (n, c, h, w), output (n, classes)."""

    def __init__(self, classes: int, in_channels: int, groups: int, stages: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_bn(in_channels, 24, 3, stride=2))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        maps = 24
        for number, (after, repeats) in enumerate(zip(stages, (4, 8, 4), strict=True), 2):
            units = [UnitV1(maps, after, groups, 2, first=number == 2)]
            units += [UnitV1(after, after, groups, 1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            maps = after
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(maps, classes)
        start(self, conv=he_fan_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(x))
        for number in (2, 3, 4):
            x = self.get_submodule(f"stage{number}")(x)
        y: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return y


@register(
    "shufflenet_v1",
    Card(
        title="ShuffleNet 1× (g = 3)",
        year=2017,
        paper="Zhang, Zhou, Lin, Sun: ShuffleNet: An Extremely Efficient CNN for Mobile Devices, CVPR 2018",
        input_shape=IMAGENET,
        classes=1000,
        parameters=1_865_728,
        published="ImageNet top-1 error 32.6 %, 140 million multiply-adds",
        note="three groups, stages of 240, 480, 960 maps",
        family="shufflenet",
        minimum_size=32,
    ),
)
def shufflenet_v1(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """224×224 → 24@112 → 24@56 → 240@28 → 480@14 → 960@7 → global mean → classes."""
    return ShuffleNetV1(classes, in_channels, 3, (240, 480, 960))


class UnitV2(nn.Module):
    """Half of the maps pass, half go through 1×1, depthwise 3×3, 1×1; then the maps are shuffled.

    With stride 2 all maps go both ways, a depthwise 3×3 and 1×1 on the shorter one.
    """

    def __init__(self, in_channels: int, maps: int, stride: int) -> None:
        super().__init__()
        half = maps // 2
        self.splits = stride == 1
        self.branch1 = nn.Sequential()
        if stride > 1:
            depthwise = _conv_bn(in_channels, in_channels, 3, stride, groups=in_channels, relu=False)
            self.branch1 = nn.Sequential(*depthwise, *_conv_bn(in_channels, half, 1))
        self.branch2 = nn.Sequential(
            *_conv_bn(half if self.splits else in_channels, half, 1),
            *_conv_bn(half, half, 3, stride, groups=half, relu=False),
            *_conv_bn(half, half, 1),
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.splits:
            passed, worked = x.chunk(2, dim=1)
            both = torch.cat([passed, self.branch2(worked)], 1)
        else:
            both = torch.cat([self.branch1(x), self.branch2(x)], 1)
        y: torch.Tensor = self.shuffle(both)
        return y


class ShuffleNetV2(nn.Module):
    """Input (n, c, h, w), output (n, classes); state-dict keys as torchvision's."""

    def __init__(self, classes: int, in_channels: int, stages: tuple[int, int, int], last: int, small: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_bn(in_channels, 24, 3, stride=1 if small else 2))
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        maps = 24
        for number, (after, repeats) in enumerate(zip(stages, (4, 8, 4), strict=True), 2):
            units = [UnitV2(maps, after, 2)] + [UnitV2(after, after, 1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            maps = after
        self.conv5 = nn.Sequential(*_conv_bn(maps, last, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(x))
        for number in (2, 3, 4):
            x = self.get_submodule(f"stage{number}")(x)
        y: torch.Tensor = self.fc(torch.flatten(self.avgpool(self.conv5(x)), 1))
        return y


def _builder(stages: tuple[int, int, int], last: int) -> Builder:
    def build(classes: int = 1000, in_channels: int = 3, small: bool = False) -> nn.Module:
        """224×224 → 24@112 → 24@56 → three stages at 28, 14 and 7 → the last 1×1 convolution → global mean → classes.

        ``small=True`` is for 32×32: a first layer of stride 1 and no pooling, so 32 → 16 → 8 → 4.
        """
        return ShuffleNetV2(classes, in_channels, stages, last, small)

    return build


def _enrol(width: str, stages: tuple[int, int, int], last: int, parameters: int, published: str) -> None:
    card = Card(
        title=f"ShuffleNet v2 {width}×",
        year=2018,
        paper="Ma, Zhang, Zheng, Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Design, ECCV 2018",
        input_shape=IMAGENET,
        classes=1000,
        parameters=parameters,
        published=published,
        note="torchvision's layout and state-dict keys",
        family="shufflenet",
        minimum_size=32,
    )
    register(f"shufflenet_v2_x{width.replace('.', '_')}", card)(_builder(stages, last))


_enrol("0.5", (48, 96, 192), 1024, 1_366_792, "ImageNet top-1 error 39.7 %, 41 million multiply-adds")
_enrol("1.0", (116, 232, 464), 1024, 2_278_604, "ImageNet top-1 error 30.6 %, 146 million multiply-adds")
_enrol("1.5", (176, 352, 704), 1024, 3_503_624, "ImageNet top-1 error 27.4 %, 299 million multiply-adds")
_enrol("2.0", (244, 488, 976), 2048, 7_393_996, "ImageNet top-1 error 25.1 %, 591 million multiply-adds")
