"""The three networks of the lecture slides: Xue, Convolutional Neural Networks (2016), section "my attempts"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.models.catalog import Card, register
from convscope.models.options import activation as activation_named
from convscope.models.options import map_size, pooling

PAPER = "Xue: Convolutional Neural Networks (lecture slides, 2016)"


def _network(
    stages: Sequence[tuple[int, int]],
    classes: int,
    in_channels: int,
    activation: str,
    pool: str,
    input_size: int | Sequence[int],
) -> nn.Module:
    """Stages of (maps, kernel size), each a convolution, an activation and 2×2 pooling, then one linear layer."""
    steps = [step for _, kernel_size in stages for step in ((kernel_size, 1, 0), (2, 2, 0))]
    height, width = map_size(input_size, steps)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (maps, kernel_size) in enumerate(stages, 1):
        layers[f"conv{number}"] = nn.Conv2d(in_channels, maps, kernel_size)
        layers[f"conv{number}_activation"] = activation_named(activation)
        layers[f"pool{number}"] = pooling(pool, 2)
        in_channels = maps
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(in_channels * height * width, classes)
    return nn.Sequential(layers)


@register(
    "slides_cifar10",
    Card(
        title="Slides' network for CIFAR-10",
        year=2016,
        paper=PAPER,
        input_shape=(3, 32, 32),
        classes=10,
        parameters=14_146,
        published="CIFAR-10, mean of the per-class accuracies 66.3 %",
        note="12C5-P2-24C5-P2; the slides name neither activation nor pooling: ReLU and max here",
        family="slides",
    ),
)
def slides_cifar10(
    classes: int = 10,
    in_channels: int = 3,
    activation: str = "relu",
    pool: str = "max",
    input_size: int | Sequence[int] = 32,
) -> nn.Module:
    """32×32 → 12@28 → 12@14 → 24@10 → 24@5 → classes."""
    return _network([(12, 5), (24, 5)], classes, in_channels, activation, pool, input_size)


@register(
    "slides_stl10",
    Card(
        title="Slides' network for four classes of STL-10",
        year=2016,
        paper=PAPER,
        input_shape=(3, 96, 96),
        classes=4,
        parameters=18_332,
        published="STL-10 (aeroplane, car, cat, dog), mean of the per-class accuracies 71.6 %",
        note="12C5-P2-24C3-P2-16C5-P2; the slides name neither activation nor pooling: ReLU and max here",
        family="slides",
    ),
)
def slides_stl10(
    classes: int = 4,
    in_channels: int = 3,
    activation: str = "relu",
    pool: str = "max",
    input_size: int | Sequence[int] = 96,
) -> nn.Module:
    """96×96 → 12@92 → 12@46 → 24@44 → 24@22 → 16@18 → 16@9 → classes."""
    return _network([(12, 5), (24, 3), (16, 5)], classes, in_channels, activation, pool, input_size)


@register(
    "slides_caltech101",
    Card(
        title="Slides' network for ten classes of Caltech-101",
        year=2016,
        paper=PAPER,
        input_shape=(3, 200, 200),
        classes=10,
        parameters=36_534,
        published="Caltech-101 (ten classes), mean of the per-class accuracies 79.2 %",
        note="12C5-P2-24C3-P2-20C5-P2-16C5-P2; the slides name neither activation nor pooling: ReLU and max here",
        family="slides",
    ),
)
def slides_caltech101(
    classes: int = 10,
    in_channels: int = 3,
    activation: str = "relu",
    pool: str = "max",
    input_size: int | Sequence[int] = 200,
) -> nn.Module:
    """200×200 → 12@98 → 24@48 → 20@22 → 16@9 → classes (sizes after pooling)."""
    return _network([(12, 5), (24, 3), (20, 5), (16, 5)], classes, in_channels, activation, pool, input_size)
