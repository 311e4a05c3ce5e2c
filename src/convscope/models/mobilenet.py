"""MobileNet v1 and v2: networks of depthwise convolutions for small computers.

Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017.
Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, he_fan_out, normal, start
from convscope.models.catalog import Card, register


def _unit(
    in_channels: int, maps: int, kernel_size: int, stride: int = 1, groups: int = 1, six: bool = True
) -> list[nn.Module]:
    """Convolution without bias, normalisation, ReLU6 (v2) or ReLU (v1)."""
    conv = nn.Conv2d(in_channels, maps, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(maps), nn.ReLU6() if six else nn.ReLU()]


#: (maps, stride) of v1's thirteen depthwise separable layers, the paper's Table 1.
V1_LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


@register(
    "mobilenet_v1",
    Card(
        title="MobileNet (1.0, 224)",
        year=2017,
        paper="Howard et al.: MobileNets: Efficient CNNs for Mobile Vision Applications, 2017",
        input_shape=IMAGENET,
        classes=1000,
        parameters=4_231_976,
        published="ImageNet top-1 70.6 %, 569 million multiply-adds",
        note="the stride of the last but one layer is 2 and of the last 1, as in the authors' program",
        family="mobilenet",
        minimum_size=32,
    ),
)
def mobilenet_v1(classes: int = 1000, in_channels: int = 3, small: bool = False) -> nn.Module:
    """224×224 → 32@112 → 64@112 → 128@56 → 256@28 → 512@14 → 1024@7 → global mean → classes.

    ``small=True`` is for 32×32: strides 1 in the first layer and the first reduction, so 32 → 16 → 8 → 4.
    """
    layers: list[nn.Module] = [nn.Sequential(*_unit(in_channels, 32, 3, 1 if small else 2, six=False))]
    maps = 32
    for number, (after, stride) in enumerate(V1_LAYERS):
        step = 1 if small and number == 1 else stride
        depthwise = _unit(maps, maps, 3, step, groups=maps, six=False)
        layers.append(nn.Sequential(*depthwise, *_unit(maps, after, 1, six=False)))
        maps = after
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            features=nn.Sequential(*layers),
            avgpool=nn.AdaptiveAvgPool2d((1, 1)),
            flatten=nn.Flatten(),
            classifier=nn.Linear(1024, classes),
        )
    )
    return start(model, conv=he_fan_out, linear=normal(0.01), zero_bias=(nn.Linear,))


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each map by 3×3, project by 1×1 without activation; skip where the shapes agree."""

    def __init__(self, in_channels: int, maps: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(nn.Sequential(*_unit(in_channels, wide, 1)))
        layers.append(nn.Sequential(*_unit(wide, wide, 3, stride, groups=wide)))
        layers += [nn.Conv2d(wide, maps, 1, bias=False), nn.BatchNorm2d(maps)]
        self.conv = nn.Sequential(*layers)
        self.skips = stride == 1 and in_channels == maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return x + y if self.skips else y


#: (expansion, maps, repeats, stride) of v2's stages, the paper's Table 2.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Input (n, c, h, w), output (n, classes); state-dict keys as torchvision's."""

    def __init__(self, classes: int, in_channels: int, small: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_unit(in_channels, 32, 3, 1 if small else 2))]
        maps = 32
        for expansion, after, repeats, stride in V2_STAGES:
            for number in range(repeats):
                step = stride if number == 0 and not (small and after == 24) else 1
                layers.append(InvertedResidual(maps, after, step, expansion))
                maps = after
        layers.append(nn.Sequential(*_unit(maps, 1280, 1)))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))
        start(self, conv=he_fan_out, linear=normal(0.01), zero_bias=(nn.Linear,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        y: torch.Tensor = self.classifier(x)
        return y


@register(
    "mobilenet_v2",
    Card(
        title="MobileNetV2 (1.0, 224)",
        year=2018,
        paper="Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018",
        input_shape=IMAGENET,
        classes=1000,
        parameters=3_504_872,
        published="ImageNet top-1 72.0 %, 300 million multiply-adds",
        note="torchvision's layout and state-dict keys",
        family="mobilenet",
        minimum_size=32,
    ),
)
def mobilenet_v2(classes: int = 1000, in_channels: int = 3, small: bool = False) -> nn.Module:
    """224×224 → 32@112 → 16@112 → 24@56 → 32@28 → 64@14 → 96@14 → 160@7 → 320@7 → 1280@7 → global mean → classes.

    ``small=True`` is for 32×32: strides 1 in the first layer and the 24-map stage, so 32 → 16 → 8 → 4.
    """
    return MobileNetV2(classes, in_channels, small)
