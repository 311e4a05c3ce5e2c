"""LeNet-5 behind a spatial transformer, which turns, enlarges and cuts out what it is to read.

Jaderberg, Simonyan, Zisserman, Kavukcuoglu: Spatial Transformer Networks, NIPS 2015.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
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
        "`output_size=` is what the transformer cuts out, by default as much as it sees, `zoom=` the part that it "
        'looks at first; `localisation="centroid"` looks at the centre of gravity of a map of shares',
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
    localisation: str = "dense",
    zoom: float = 1.0,
) -> nn.Module:
    """The localisation network halves the picture and has two layers of 20 maps (5×5) with a max pooling between them;
    LeNet-5 reads what is cut out.

    "dense": 50 hidden units make six numbers of the maps, of which each place has weights of its own. "centroid": a
    third convolution makes one map of them, whose softmax says how much each place counts; where to look begins as
    their centre of gravity. What finds a digit in one place then finds it in all.
    """
    if not isinstance(transformer, bool):
        raise ArgumentError("transformer", transformer, "True or False")
    if output_size is not None and not transformer:
        raise ArgumentError("output_size", output_size, "nothing: without a transformer nothing is cut out")
    if localisation not in _LOCALISATIONS:
        raise UnknownNameError("localisation", localisation, _LOCALISATIONS)
    if not transformer and (localisation, zoom) != ("dense", 1.0):
        raise ArgumentError("transformer", transformer, "True where localisation or zoom is chosen")
    size = pair(input_size if output_size is None else output_size, "output_size")
    reader = lenet5(classes, in_channels, "relu", "max", size)
    if not transformer:
        return reader
    looks = _LOCALISATIONS[localisation](in_channels, input_size, None if output_size is None else size, zoom)
    return nn.Sequential(OrderedDict(transformer=looks, **dict(reader.named_children())))


Size = tuple[int, int] | None


def _dense(in_channels: int, input_size: int | Sequence[int], size: Size, zoom: float) -> SpatialTransformer:
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
    return SpatialTransformer(localisation, 50, size, zoom=zoom)


def _centroid(in_channels: int, input_size: int | Sequence[int], size: Size, zoom: float) -> SpatialTransformer:
    shares = map_size(input_size, [(2, 2, 0), (2, 2, 0)])
    localisation = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Conv2d(in_channels, 20, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 20, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(20, 1, 5, padding=2),  # sees 44 pixels of the picture, more than a digit's 28
        nn.Flatten(),
        nn.Softmax(1),
    )
    return SpatialTransformer(localisation, shares[0] * shares[1], size, zoom=zoom, shares=shares)


_LOCALISATIONS = {"dense": _dense, "centroid": _centroid}
