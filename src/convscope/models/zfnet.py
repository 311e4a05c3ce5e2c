"""ZFNet: AlexNet with a finer first layer, found by looking at what its layers see.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.models.alexnet import brightness_normalisation
from convscope.models.blocks import IMAGENET, classifier_4096, normal, start
from convscope.models.catalog import Card, register
from convscope.models.options import map_size


@register(
    "zfnet",
    Card(
        title="ZFNet",
        year=2013,
        paper="Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014",
        input_shape=IMAGENET,
        classes=1000,
        parameters=62_357_608,
        published="ImageNet 2012 top-5 error 16.5 % (one network), 14.8 % (six)",
        note="7×7/2 and 5×5/2 instead of AlexNet's 11×11/4 and 5×5/1, no towers",
        family="alexnet",
        shapes=(("conv1", (96, 110, 110)), ("pool1", (96, 55, 55)), ("conv2", (256, 26, 26)), ("pool5", (256, 6, 6))),
        economical=(("hidden", 64), ("input_size", 64)),
    ),
)
def zfnet(
    classes: int = 1000, in_channels: int = 3, hidden: int = 4096, input_size: int | Sequence[int] = 224
) -> nn.Module:
    """224×224 → 96@110 → 96@55 → 256@26 → 256@13 → 384@13 → 384@13 → 256@13 → 256@6 → 4096 → 4096 → classes."""
    height, width = map_size(input_size, [(7, 2, 1), (3, 2, 1), (5, 2, 0), (3, 2, 1), (3, 2, 0)])
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(in_channels, 96, kernel_size=7, stride=2, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2, padding=1),
            norm1=brightness_normalisation(),
            conv2=nn.Conv2d(96, 256, kernel_size=5, stride=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2, padding=1),
            norm2=brightness_normalisation(),
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
    return start(model, conv=normal(0.01), linear=normal(0.01), zero_bias=(nn.Conv2d, nn.Linear))
