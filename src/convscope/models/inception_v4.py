"""Inception-v4 and Inception-ResNet-v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning,
AAAI 2017. State-dict keys are those of the weights ported to PyTorch (pretrainedmodels).
"""

from __future__ import annotations

import torch
from torch import nn

from convscope.models.blocks import Branches, ConvBnRelu
from convscope.models.catalog import Card, register

PAPER = (
    "Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on "
    "Learning, AAAI 2017"
)

#: A chain's layer: (maps, kernel size) with the padding that keeps the size; "v": valid; "/2": stride 2, valid.
Layer = tuple[int, int | tuple[int, int]] | tuple[int, int | tuple[int, int], str]


def conv_chain(in_channels: int, *layers: Layer) -> nn.Module:
    """Convolution units one after the other; a single one stands alone, without a Sequential around it."""
    units: list[nn.Module] = []
    for maps, kernel_size, *edge in layers:
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (0, 0) if edge else (height // 2, width // 2)
        stride = 2 if edge == ["/2"] else 1
        units.append(ConvBnRelu(in_channels, maps, (height, width), stride, padding))
        in_channels = maps
    return units[0] if len(units) == 1 else nn.Sequential(*units)


def _pooled(in_channels: int, maps: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), conv_chain(in_channels, (maps, 1))
    )


def _halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2)


def inception_a() -> Branches:
    """384 maps at 35×35."""
    return Branches(
        branch0=conv_chain(384, (96, 1)),
        branch1=conv_chain(384, (64, 1), (96, 3)),
        branch2=conv_chain(384, (64, 1), (96, 3), (96, 3)),
        branch3=_pooled(384, 96),
    )


def reduction_a() -> Branches:
    """384 maps at 35×35 → 1,024 at 17×17."""
    return Branches(
        branch0=conv_chain(384, (384, 3, "/2")),
        branch1=conv_chain(384, (192, 1), (224, 3), (256, 3, "/2")),
        branch2=_halve(),
    )


def inception_b() -> Branches:
    """1,024 maps at 17×17."""
    return Branches(
        branch0=conv_chain(1024, (384, 1)),
        branch1=conv_chain(1024, (192, 1), (224, (1, 7)), (256, (7, 1))),
        branch2=conv_chain(1024, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
        branch3=_pooled(1024, 128),
    )


def reduction_b() -> Branches:
    """1,024 maps at 17×17 → 1,536 at 8×8."""
    return Branches(
        branch0=conv_chain(1024, (192, 1), (192, 3, "/2")),
        branch1=conv_chain(1024, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, "/2")),
        branch2=_halve(),
    )


class InceptionC(nn.Module):
    """1,536 maps at 8×8, with 3×3 split into 1×3 and 3×1 side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = conv_chain(1536, (256, 1))
        self.branch1_0 = conv_chain(1536, (384, 1))
        self.branch1_1a = conv_chain(384, (256, (1, 3)))
        self.branch1_1b = conv_chain(384, (256, (3, 1)))
        self.branch2_0 = conv_chain(1536, (384, 1))
        self.branch2_1 = conv_chain(384, (448, (3, 1)))
        self.branch2_2 = conv_chain(448, (512, (1, 3)))
        self.branch2_3a = conv_chain(512, (256, (1, 3)))
        self.branch2_3b = conv_chain(512, (256, (3, 1)))
        self.branch3 = _pooled(1536, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.branch1_0(x)
        two = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        parts = [self.branch0(x), self.branch1_1a(one), self.branch1_1b(one)]
        parts += [self.branch2_3a(two), self.branch2_3b(two), self.branch3(x)]
        return torch.cat(parts, 1)


class InceptionV4(nn.Module):
    """Input (n, c, h, w) from 75×75 on, output (n, classes)."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_chain(in_channels, (32, 3, "/2")),
            conv_chain(32, (32, 3, "v")),
            conv_chain(32, (64, 3)),
            Branches(maxpool=_halve(), conv=conv_chain(64, (96, 3, "/2"))),
            Branches(
                branch0=conv_chain(160, (64, 1), (96, 3, "v")),
                branch1=conv_chain(160, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, "v")),
            ),
            Branches(conv=conv_chain(192, (192, 3, "/2")), maxpool=_halve()),
            *(inception_a() for _ in range(4)),
            reduction_a(),
            *(inception_b() for _ in range(7)),
            reduction_b(),
            *(InceptionC() for _ in range(3)),
        )
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.last_linear = nn.Linear(1536, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avg_pool(self.features(x)), 1)
        y: torch.Tensor = self.last_linear(self.dropout(x))
        return y


class Residual(nn.Module):
    """y = relu(x + scale · project(branches(x))): an Inception block as what is added.

    ``last`` leaves the ReLU out. The scale keeps very wide residual networks from dying in training.
    """

    def __init__(self, in_channels: int, maps: int, scale: float, last: bool = False, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)
        self._branch_names = tuple(branches)
        self.scale = scale
        self.conv2d = nn.Conv2d(maps, in_channels, 1)
        self.relu = nn.Identity() if last else nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.cat([self.get_submodule(name)(x) for name in self._branch_names], 1)
        y: torch.Tensor = self.relu(self.conv2d(maps) * self.scale + x)
        return y


def block35() -> Residual:
    """Inception-ResNet-A: 320 maps at 35×35."""
    return Residual(
        320,
        128,
        0.17,
        branch0=conv_chain(320, (32, 1)),
        branch1=conv_chain(320, (32, 1), (32, 3)),
        branch2=conv_chain(320, (32, 1), (48, 3), (64, 3)),
    )


def block17() -> Residual:
    """Inception-ResNet-B: 1,088 maps at 17×17."""
    return Residual(
        1088,
        384,
        0.1,
        branch0=conv_chain(1088, (192, 1)),
        branch1=conv_chain(1088, (128, 1), (160, (1, 7)), (192, (7, 1))),
    )


def block8(scale: float = 0.2, last: bool = False) -> Residual:
    """Inception-ResNet-C: 2,080 maps at 8×8."""
    return Residual(
        2080,
        448,
        scale,
        last,
        branch0=conv_chain(2080, (192, 1)),
        branch1=conv_chain(2080, (192, 1), (224, (1, 3)), (256, (3, 1))),
    )


class InceptionResNetV2(nn.Module):
    """Input (n, c, h, w) from 75×75 on, output (n, classes)."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv2d_1a = conv_chain(in_channels, (32, 3, "/2"))
        self.conv2d_2a = conv_chain(32, (32, 3, "v"))
        self.conv2d_2b = conv_chain(32, (64, 3))
        self.maxpool_3a = _halve()
        self.conv2d_3b = conv_chain(64, (80, 1))
        self.conv2d_4a = conv_chain(80, (192, 3, "v"))
        self.maxpool_5a = _halve()
        self.mixed_5b = Branches(
            branch0=conv_chain(192, (96, 1)),
            branch1=conv_chain(192, (48, 1), (64, 5)),
            branch2=conv_chain(192, (64, 1), (96, 3), (96, 3)),
            branch3=_pooled(192, 64),
        )
        self.repeat = nn.Sequential(*(block35() for _ in range(10)))
        self.mixed_6a = Branches(
            branch0=conv_chain(320, (384, 3, "/2")),
            branch1=conv_chain(320, (256, 1), (256, 3), (384, 3, "/2")),
            branch2=_halve(),
        )
        self.repeat_1 = nn.Sequential(*(block17() for _ in range(20)))
        self.mixed_7a = Branches(
            branch0=conv_chain(1088, (256, 1), (384, 3, "/2")),
            branch1=conv_chain(1088, (256, 1), (288, 3, "/2")),
            branch2=conv_chain(1088, (256, 1), (288, 3), (320, 3, "/2")),
            branch3=_halve(),
        )
        self.repeat_2 = nn.Sequential(*(block8() for _ in range(9)))
        self.block8 = block8(scale=1.0, last=True)
        self.conv2d_7b = conv_chain(2080, (1536, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.last_linear = nn.Linear(1536, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.maxpool_5a(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.repeat_1(self.mixed_6a(self.repeat(self.mixed_5b(x))))
        x = self.conv2d_7b(self.block8(self.repeat_2(self.mixed_7a(x))))
        y: torch.Tensor = self.last_linear(self.dropout(torch.flatten(self.avgpool(x), 1)))
        return y


@register(
    "inception_v4",
    Card(
        title="Inception-v4",
        year=2016,
        paper=PAPER,
        input_shape=(3, 299, 299),
        classes=1000,
        parameters=42_679_816,
        published="ImageNet top-1 error 20.0 %, top-5 5.0 % (one crop)",
        note="layout of the published weights as ported to PyTorch",
        family="inception",
        minimum_size=75,
    ),
)
def inception_v4(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """299×299 → stem 384@35 → 4 × A → 1024@17 → 7 × B → 1536@8 → 3 × C → global mean → classes."""
    return InceptionV4(classes, in_channels)


@register(
    "inception_resnet_v2",
    Card(
        title="Inception-ResNet-v2",
        year=2016,
        paper=PAPER,
        input_shape=(3, 299, 299),
        classes=1000,
        parameters=55_843_464,
        published="ImageNet top-1 error 19.9 %, top-5 4.9 % (one crop)",
        note="layout of the published weights as ported to PyTorch; its stem is Inception-v3's, the paper prints v4's",
        family="inception",
        minimum_size=75,
    ),
)
def inception_resnet_v2(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """299×299 → stem 320@35 → 10 × A → 1088@17 → 20 × B → 2080@8 → 10 × C → 1536@8 → global mean → classes."""
    return InceptionResNetV2(classes, in_channels)
