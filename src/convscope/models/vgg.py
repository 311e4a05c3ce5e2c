"""VGG: columns A to E of the paper's table, plain and with batch normalisation, and the textbook's for grey pictures.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convscope.models.alexnet import brightness_normalisation
from convscope.models.blocks import IMAGENET, classifier_4096, he_fan_out, normal, start
from convscope.models.catalog import Builder, Card, register
from convscope.models.options import map_size

PAPER = "Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015"

#: Convolutions of each of the five stages as kernel sizes; a 2×2 max pooling ends every stage.
STAGES: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
MAPS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """``features``, ``avgpool`` to 7×7, ``classifier``; state-dict keys as torchvision's.

    Input (n, c, h, w) from 32×32 on, output (n, classes). ``head`` is the list of the classifier's layers and
    ``grid`` the size that the maps are averaged to.
    """

    def __init__(self, features: Sequence[nn.Module], head: Sequence[nn.Module], grid: int = 7) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d((grid, grid))
        self.classifier = nn.Sequential(*head)
        start(self, conv=he_fan_out, linear=normal(0.01), zero_bias=(nn.Conv2d, nn.Linear))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        y: torch.Tensor = self.classifier(torch.flatten(x, 1))
        return y


def features(
    column: str,
    in_channels: int,
    batch_norm: bool = False,
    response_norm: bool = False,
    widths: Sequence[int] = MAPS,
) -> list[nn.Module]:
    """The convolutional part; ``response_norm`` puts local response normalisation after the first layer (A-LRN),
    ``widths`` are the maps of the five stages."""
    layers: list[nn.Module] = []
    for kernel_sizes, maps in zip(STAGES[column], widths, strict=True):
        for kernel_size in kernel_sizes:
            layers.append(nn.Conv2d(in_channels, maps, kernel_size, padding=kernel_size // 2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(maps))
            layers.append(nn.ReLU())
            if response_norm and len(layers) == 2:
                layers.append(brightness_normalisation())
            in_channels = maps
        layers.append(nn.MaxPool2d(2, stride=2))
    return layers


def _builder(column: str, batch_norm: bool = False, response_norm: bool = False) -> Builder:
    def build(classes: int = 1000, in_channels: int = 3, hidden: int | None = None, small: bool = False) -> nn.Module:
        """Five stages of 3×3 convolutions, each ended by 2×2 max pooling, then two hidden layers of ``hidden`` units.

        ``small=True`` is for pictures of 32×32: the last maps are 1×1, and unless ``hidden`` is given one linear layer
        follows them.
        """
        grid = 1 if small else 7
        if small and hidden is None:
            head: list[nn.Module] = [nn.Linear(512, classes)]
        else:
            head = classifier_4096(512 * grid * grid, classes, 4096 if hidden is None else hidden)
        return VGG(features(column, in_channels, batch_norm, response_norm), head, grid)

    return build


def _enrol(
    name: str, column: str, parameters: int, published: str, batch_norm: bool = False, response_norm: bool = False
) -> None:
    depth = sum(map(len, STAGES[column])) + 3
    title = f"VGG-{depth} (column {column}{'-LRN' if response_norm else ''})"
    note = "torchvision's layout and state-dict keys"
    if response_norm:
        note = "local response normalisation after the first layer, which the paper found not to help"
    elif column == "C":
        note = "1×1 convolutions end the last three stages"
    card = Card(
        title=title + (" with batch normalisation" if batch_norm else ""),
        year=2014,
        paper=PAPER,
        input_shape=IMAGENET,
        classes=1000,
        parameters=parameters,
        published=published,
        note=note,
        family="vgg",
        minimum_size=32,
        economical=(("hidden", 64),),
    )
    register(name, card)(_builder(column, batch_norm, response_norm))


_enrol("vgg11", "A", 132_863_336, "ImageNet top-1 error 29.6 %, top-5 10.4 %")
_enrol("vgg13", "B", 133_047_848, "ImageNet top-1 error 28.7 %, top-5 9.9 %")
_enrol("vgg16", "D", 138_357_544, "ImageNet top-1 error 25.6 %, top-5 8.1 %")
_enrol("vgg19", "E", 143_667_240, "ImageNet top-1 error 25.5 %, top-5 8.0 %")
_enrol("vgg11_bn", "A", 132_868_840, "ImageNet top-1 70.37 % (torchvision's weights)", batch_norm=True)
_enrol("vgg13_bn", "B", 133_053_736, "ImageNet top-1 71.59 % (torchvision's weights)", batch_norm=True)
_enrol("vgg16_bn", "D", 138_365_992, "ImageNet top-1 73.36 % (torchvision's weights)", batch_norm=True)
_enrol("vgg19_bn", "E", 143_678_248, "ImageNet top-1 74.22 % (torchvision's weights)", batch_norm=True)
_enrol("vgg11_lrn", "A", 132_863_336, "ImageNet top-1 error 29.7 %, top-5 10.5 %", response_norm=True)
_enrol("vgg16c", "C", 133_638_952, "ImageNet top-1 error 27.3 %, top-5 8.8 % (scale jittering)")


@register(
    "vgg11_gray",
    Card(
        title="VGG-11 of the textbook",
        year=2014,
        paper=PAPER,
        input_shape=(1, 224, 224),
        classes=10,
        parameters=128_806_154,
        published="Fashion-MNIST in Dive into Deep Learning",
        note="one grey channel, ten classes",
        family="vgg",
        economical=(("hidden", 64), ("input_size", 32)),
    ),
)
def vgg11_gray(
    classes: int = 10, in_channels: int = 1, hidden: int = 4096, input_size: int | Sequence[int] = 224
) -> nn.Module:
    """224×224 → 64@112 → 128@56 → 256@28 → 512@14 → 512@7 → 4096 → 4096 → classes."""
    height, width = map_size(input_size, [(2, 2, 0)] * 5)
    head = classifier_4096(512 * height * width, classes, hidden)
    return nn.Sequential(*features("A", in_channels), nn.Flatten(), *head)
