"""The four-layer network for CIFAR-10 of Krizhevsky's cuda-convnet (2011), on which figure 1 of the AlexNet paper
compares ReLU with tanh."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from convscope.models.catalog import Card, register
from convscope.models.options import activation as activation_named


@register(
    "krizhevsky_cifar10",
    Card(
        title="Krizhevsky's four-layer network for CIFAR-10",
        year=2012,
        paper="Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep CNNs, NIPS 2012",
        input_shape=(3, 32, 32),
        classes=10,
        parameters=89_578,
        published="25 % training error about 6 times sooner with ReLU than with tanh",
        note="32C5-P3/2-32C5-P3/2-64C5-P3/2-10 after cuda-convnet, all pooling max; the paper says only 'four layers'",
        family="alexnet",
    ),
)
def krizhevsky_cifar10(classes: int = 10, in_channels: int = 3, activation: str = "relu") -> nn.Module:
    """32×32 → 32@32 → 32@16 → 32@16 → 32@8 → 64@8 → 64@4 → classes; the pooling overlaps (3×3, stride 2, ceil)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, maps in enumerate((32, 32, 64), 1):
        layers[f"conv{number}"] = nn.Conv2d(in_channels, maps, kernel_size=5, padding=2)
        layers[f"conv{number}_activation"] = activation_named(activation)
        layers[f"pool{number}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        in_channels = maps
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(in_channels * 4 * 4, classes)
    return nn.Sequential(layers)
