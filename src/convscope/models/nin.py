"""Network in Network: small fully connected networks slid over the picture, as 1×1 convolutions.

Lin, Chen, Yan: Network In Network, ICLR 2014.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from convscope.models.blocks import IMAGENET
from convscope.models.catalog import Card, register

PAPER = "Lin, Chen, Yan: Network In Network, ICLR 2014"


def block(
    in_channels: int, maps: tuple[int, int, int], kernel_size: int, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """A convolution and two 1×1 convolutions, a ReLU after each."""
    first, second, third = maps
    return nn.Sequential(
        nn.Conv2d(in_channels, first, kernel_size, stride, padding),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(second, third, kernel_size=1),
        nn.ReLU(),
    )


def _network(in_channels: int, last: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            block1=block(in_channels, (96, 96, 96), 11, stride=4),
            pool1=nn.MaxPool2d(3, stride=2),
            block2=block(96, (256, 256, 256), 5, padding=2),
            pool2=nn.MaxPool2d(3, stride=2),
            block3=block(256, (384, 384, 384), 3, padding=1),
            pool3=nn.MaxPool2d(3, stride=2),
            dropout=nn.Dropout(0.5),
            block4=block(384, last, 3, padding=1),
            average=nn.AdaptiveAvgPool2d((1, 1)),
            flatten=nn.Flatten(),
        )
    )


@register(
    "nin",
    Card(
        title="Network in Network",
        year=2013,
        paper=PAPER,
        input_shape=IMAGENET,
        classes=1000,
        parameters=7_595_176,
        published="CIFAR-10 test error 8.81 % with augmentation (a smaller net); ImageNet top-1 59.36 %",
        note="the authors' ImageNet layout: 1,024 maps in the last block",
        family="nin",
        minimum_size=67,
    ),
)
def nin(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """224×224 → 96@54 → 256@26 → 384@12 → 1024@5 → classes@5 → global mean."""
    return _network(in_channels, (1024, 1024, classes))


@register(
    "nin_gray",
    Card(
        title="Network in Network of the textbook",
        year=2013,
        paper=PAPER,
        input_shape=(1, 224, 224),
        classes=10,
        parameters=1_992_166,
        published="Fashion-MNIST in Dive into Deep Learning",
        note="one grey channel; the last block has as many maps as classes throughout",
        family="nin",
        minimum_size=67,
    ),
)
def nin_gray(classes: int = 10, in_channels: int = 1) -> nn.Module:
    """224×224 → 96@54 → 256@26 → 384@12 → classes@5 → global mean."""
    return _network(in_channels, (classes, classes, classes))
