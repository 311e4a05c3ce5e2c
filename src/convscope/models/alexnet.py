"""AlexNet: the two-tower network of 2012, the one-tower layout of 2014, and the textbook's for grey pictures.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from convscope.models.blocks import IMAGENET, classifier_4096, normal, start
from convscope.models.catalog import Card, register
from convscope.models.options import map_size

PAPER = "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"


def brightness_normalisation() -> nn.LocalResponseNorm:
    """Local response normalisation with the paper's k = 2, n = 5, α = 1e-4, β = 0.75.

    torch divides its α by n, so the paper's sum needs α·n = 5e-4.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


@register(
    "alexnet_2012",
    Card(
        title="AlexNet as published",
        year=2012,
        paper=PAPER,
        input_shape=(3, 227, 227),
        classes=1000,
        parameters=60_965_224,
        published="ImageNet 2012 top-5 error 18.2 % (one network), 15.3 % (seven, pre-trained)",
        note="two towers as groups=2, local response normalisation, overlapping 3/2 pooling; the paper says 224×224, "
        "its sizes need 227×227",
        family="alexnet",
        shapes=(("conv1", (96, 55, 55)), ("conv2", (256, 27, 27)), ("conv5", (256, 13, 13))),
        economical=(("hidden", 64), ("input_size", 67)),
    ),
)
def alexnet_2012(
    classes: int = 1000, in_channels: int = 3, hidden: int = 4096, input_size: int | Sequence[int] = 227
) -> nn.Module:
    """227×227 → 96@55 → 256@27 → 384@13 → 384@13 → 256@13 → 256@6 → 4096 → 4096 → classes."""
    height, width = map_size(input_size, [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 2, 0)])
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(in_channels, 96, kernel_size=11, stride=4),
            relu1=nn.ReLU(),
            norm1=brightness_normalisation(),
            pool1=nn.MaxPool2d(3, stride=2),
            conv2=nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2),
            relu2=nn.ReLU(),
            norm2=brightness_normalisation(),
            pool2=nn.MaxPool2d(3, stride=2),
            conv3=nn.Conv2d(256, 384, kernel_size=3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, kernel_size=3, padding=1, groups=2),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, kernel_size=3, padding=1, groups=2),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),
            flatten=nn.Flatten(),
            fc6=nn.Linear(256 * height * width, hidden),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(hidden, hidden),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(hidden, classes),
        )
    )
    start(model, conv=normal(0.01), linear=normal(0.01), zero_bias=(nn.Conv2d, nn.Linear))
    for name in ("conv2", "conv4", "conv5", "fc6", "fc7"):  # ones, so that the ReLUs start with positive inputs
        nn.init.ones_(model.get_submodule(name).get_parameter("bias"))
    return model


class AlexNet(nn.Module):
    """The one-tower layout with torchvision's state-dict keys. Input (n, c, h, w) from 63×63, output (n, classes)."""

    def __init__(self, classes: int, in_channels: int, hidden: int = 4096) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(*classifier_4096(256 * 6 * 6, classes, hidden, dropout_first=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        y: torch.Tensor = self.classifier(torch.flatten(x, 1))
        return y


@register(
    "alexnet",
    Card(
        title="AlexNet, one tower",
        year=2014,
        paper="Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014",
        input_shape=IMAGENET,
        classes=1000,
        parameters=61_100_840,
        published="ImageNet top-1 56.52 % (torchvision's weights)",
        note="torchvision's layout and state-dict keys; no response normalisation",
        family="alexnet",
        minimum_size=63,
        economical=(("hidden", 64),),
    ),
)
def alexnet(classes: int = 1000, in_channels: int = 3, hidden: int = 4096) -> nn.Module:
    """224×224 → 64@55 → 192@27 → 384@13 → 256@13 → 256@6 → 4096 → 4096 → classes."""
    return AlexNet(classes, in_channels, hidden)


@register(
    "alexnet_gray",
    Card(
        title="AlexNet of the textbook",
        year=2012,
        paper=PAPER,
        input_shape=(1, 224, 224),
        classes=10,
        parameters=46_764_746,
        published="Fashion-MNIST in Dive into Deep Learning",
        note="one grey channel, ten classes, first layer with padding 1, full 256-384-384-256 maps",
        family="alexnet",
        shapes=(("conv1", (96, 54, 54)),),
        economical=(("hidden", 64), ("input_size", 65)),
    ),
)
def alexnet_gray(
    classes: int = 10, in_channels: int = 1, hidden: int = 4096, input_size: int | Sequence[int] = 224
) -> nn.Module:
    """224×224 → 96@54 → 256@26 → 384@12 → 384@12 → 256@12 → 256@5 → 4096 → 4096 → classes."""
    height, width = map_size(input_size, [(11, 4, 1), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 2, 0)])
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(in_channels, 96, kernel_size=11, stride=4, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2),
            conv2=nn.Conv2d(96, 256, kernel_size=5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2),
            conv3=nn.Conv2d(256, 384, kernel_size=3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, kernel_size=3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, kernel_size=3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(*classifier_4096(256 * height * width, classes, hidden)),
        )
    )
