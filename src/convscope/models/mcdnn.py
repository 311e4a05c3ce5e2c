"""The multi-column deep network, and one column of it.

Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, create_model, register
from convscope.models.committee import PAPER, Committee
from convscope.models.options import activation as activation_named
from convscope.models.options import map_size


@register(
    "mcdnn_column",
    Card(
        title="MCDNN, one column",
        year=2012,
        paper=PAPER,
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


@register(
    "mcdnn",
    Card(
        title="MCDNN, a committee of columns",
        year=2012,
        paper=PAPER,
        input_shape=(1, 29, 29),
        classes=10,
        parameters=35 * 76_040,
        published="MNIST test error 0.23 % with 35 columns on digits of seven widths",
        note="`convscope train mcdnn` trains the columns one by one, each on digits of its own width, and puts them "
        "together; built here they share one preprocessing",
        family="committee",
        economical=(("columns", 2),),
    ),
)
def mcdnn(classes: int = 10, in_channels: int = 1, columns: int = 35) -> nn.Module:
    """``columns`` networks 29×29 → 20@26 → 20@13 → 40@9 → 40@3 → 150 → classes, averaged."""
    count = whole_number(columns, "columns")
    return Committee([create_model("mcdnn_column", classes, in_channels) for _ in range(count)])
