"""One column of the multi-column deep network.

Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.models.catalog import Card, register
from convscope.models.options import activation as activation_named
from convscope.models.options import map_size


@register(
    "mcdnn_column",
    Card(
        title="MCDNN, one column",
        year=2012,
        paper="Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012",
        input_shape=(1, 29, 29),
        classes=10,
        parameters=76_040,
        published="MNIST test error 0.23 % with 35 columns on digits of seven widths",
        note="1×29×29-20C4-MP2-40C5-MP3-150N-10N",
        family="mcdnn",
    ),
)
def mcdnn_column(
    classes: int = 10, in_channels: int = 1, activation: str = "tanh", input_size: int | Sequence[int] = 29
) -> nn.Module:
    """29×29 → 20@26 → 20@13 → 40@9 → 40@3 → 150 → classes."""
    height, width = map_size(input_size, [(4, 1, 0), (2, 2, 0), (5, 1, 0), (3, 3, 0)])
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 20, kernel_size=4),
            conv1_activation=activation_named(activation),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 40, kernel_size=5),
            conv2_activation=activation_named(activation),
            pool2=nn.MaxPool2d(3),
            flatten=nn.Flatten(),
            hidden=nn.Linear(40 * height * width, 150),
            hidden_activation=activation_named(activation),
            output=nn.Linear(150, classes),
        )
    )
