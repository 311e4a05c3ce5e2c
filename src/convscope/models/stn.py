"""LeNet-5 behind a spatial transformer, which turns, enlarges and cuts out what it is to read.

Jaderberg, Simonyan, Zisserman, Kavukcuoglu: Spatial Transformer Networks, NIPS 2015.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.errors import ArgumentError
from convscope.layers import SpatialTransformer
from convscope.models.catalog import Card, register
from convscope.models.lenet import lenet5
from convscope.models.options import map_size
from convscope.shapes import pair

PAPER = "Jaderberg, Simonyan, Zisserman, Kavukcuoglu: Spatial Transformer Networks, NIPS 2015"


@register(
    "stn_lenet",
    Card(
        title="LeNet-5 with a spatial transformer",
        year=2015,
        paper=PAPER,
        input_shape=(1, 28, 28),
        classes=10,
        parameters=73_602,
        published="distorted MNIST: rotated 0.7 %, rotated, scaled and translated 0.5 % error (larger networks)",
        note="ReLU and max pooling; `transformer=False` is the same network without it, to compare with; "
        "`output_size=` is what the transformer cuts out, by default as much as it sees",
        family="lenet",
        shapes=(("transformer.theta", (6,)), ("transformer", (1, 28, 28)), ("output", (10,))),
    ),
)
def stn_lenet(
    classes: int = 10,
    in_channels: int = 1,
    transformer: bool = True,
    output_size: int | Sequence[int] | None = None,
    input_size: int | Sequence[int] = 28,
) -> nn.Module:
    """The localisation network halves the picture and has two layers of 20 maps (5×5) with a max pooling between them
    and 50 hidden units; LeNet-5 reads what is cut out."""
    if not isinstance(transformer, bool):
        raise ArgumentError("transformer", transformer, "True or False")
    if output_size is not None and not transformer:
        raise ArgumentError("output_size", output_size, "nothing: without a transformer nothing is cut out")
    size = pair(input_size if output_size is None else output_size, "output_size")
    reader = lenet5(classes, in_channels, "relu", "max", size)
    if not transformer:
        return reader
    height, width = map_size(input_size, [(2, 2, 0), (5, 1, 0), (2, 2, 0), (5, 1, 0)])
    localisation = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Conv2d(in_channels, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 20, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * height * width, 50),
        nn.ReLU(),
    )
    looks = SpatialTransformer(localisation, 50, None if output_size is None else size)
    return nn.Sequential(OrderedDict(transformer=looks, **dict(reader.named_children())))
