"""LeNet-5: the network of 1998 in full, and the plain version of the textbooks.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86 (1998).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.layers import RBF, ScaledTanh, Subsample2d, TableConv2d, initialise
from convscope.models.catalog import Card, register
from convscope.models.options import activation as activation_named
from convscope.models.options import map_size, pooling

PAPER = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86 (1998)"


@register(
    "lenet5",
    Card(
        title="LeNet-5, plain",
        year=1998,
        paper=PAPER,
        input_shape=(1, 28, 28),
        classes=10,
        parameters=61_706,
        published="MNIST test error 0.95 % (the network of 1998)",
        note="full connection in C3, pooling without parameters, linear output; sigmoid and mean pooling by default, "
        'as textbooks print it; activation="relu", pool="max" trains far faster',
        family="lenet",
        shapes=(
            ("c1", (6, 28, 28)),
            ("s2", (6, 14, 14)),
            ("c3", (16, 10, 10)),
            ("s4", (16, 5, 5)),
            ("flatten", (400,)),
            ("f5", (120,)),
            ("f6", (84,)),
            ("output", (10,)),
        ),
    ),
)
def lenet5(
    classes: int = 10,
    in_channels: int = 1,
    activation: str = "sigmoid",
    pool: str = "mean",
    input_size: int | Sequence[int] = 28,
) -> nn.Module:
    """28×28 → C1 6@28 (5×5, padding 2) → S2 6@14 → C3 16@10 → S4 16@5 → F5 120 → F6 84 → output."""
    height, width = map_size(input_size, [(5, 1, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0)])
    return nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(in_channels, 6, kernel_size=5, padding=2),
            c1_activation=activation_named(activation),
            s2=pooling(pool, 2),
            c3=nn.Conv2d(6, 16, kernel_size=5),
            c3_activation=activation_named(activation),
            s4=pooling(pool, 2),
            flatten=nn.Flatten(),
            f5=nn.Linear(16 * height * width, 120),
            f5_activation=activation_named(activation),
            f6=nn.Linear(120, 84),
            f6_activation=activation_named(activation),
            output=nn.Linear(84, classes),
        )
    )


@register(
    "lenet5_1998",
    Card(
        title="LeNet-5 as published",
        year=1998,
        paper=PAPER,
        input_shape=(1, 32, 32),
        classes=10,
        parameters=60_000,
        published="MNIST test error 0.95 %, 0.8 % with distorted training pictures",
        note="connection table in C3, trainable subsampling, scaled tanh, Euclidean RBF output against fixed 7×12 "
        "bitmaps (840 constants, not trained)",
        family="lenet",
        loss="rbf",
        shapes=(
            ("c1", (6, 28, 28)),
            ("s2", (6, 14, 14)),
            ("c3", (16, 10, 10)),
            ("s4", (16, 5, 5)),
            ("c5", (120, 1, 1)),
            ("f6", (84,)),
            ("output", (10,)),
        ),
    ),
)
def lenet5_1998(classes: int = 10, in_channels: int = 1) -> nn.Module:
    """32×32 → C1 6@28 → S2 6@14 → C3 16@10 (table) → S4 16@5 → C5 120@1 → F6 84 → RBF.

    The weights start uniform in ±2.4/fan-in, the paper's rule.
    """
    model = nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(in_channels, 6, kernel_size=5),
            c1_activation=ScaledTanh(),
            s2=Subsample2d(6, 2, activation="scaled_tanh"),
            c3=TableConv2d(6, 16, kernel_size=5, table="lenet5_c3"),
            c3_activation=ScaledTanh(),
            s4=Subsample2d(16, 2, activation="scaled_tanh"),
            c5=nn.Conv2d(16, 120, kernel_size=5),
            c5_activation=ScaledTanh(),
            flatten=nn.Flatten(),
            f6=nn.Linear(120, 84),
            f6_activation=ScaledTanh(),
            output=RBF(84, classes),
        )
    )
    return initialise(model, "lecun_uniform")
