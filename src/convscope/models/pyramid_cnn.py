"""Pyramid CNN: layers trained one by one on patches that grow, their filters shared by all levels above.

Fan, Cao, Jiang, Yin: Learning Deep Face Representation, arXiv 1403.2802 (2014).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register
from convscope.models.options import map_size


class PyramidCNN(nn.Module):
    """D = α·d(f(a), f(b)) − β,   d = ‖f(a) − f(b)‖²,   α and β learned (Xue 2016, eq. (31))

    f sends a patch through one filter and pooling a level, then through a linear layer of the level's own. The filters
    of a level are those of every level above it. Two inputs (n, channels, height, width); output D (n,), below 0: the
    same person. ``normalised``: a patch is first brought to mean 0 and deviation 1, its mirror image's maps are
    averaged with its own, and f is scaled to length 1.
    """

    def __init__(
        self, in_channels: int, maps: Sequence[int], features: int, size: tuple[int, int], normalised: bool
    ) -> None:
        super().__init__()
        self.standardise = nn.LayerNorm((in_channels, *size), elementwise_affine=False) if normalised else None
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for place, width in enumerate(maps, 1):
            layers[f"level{place}"] = nn.Conv2d(channels, width, kernel_size=3, padding=1)
            layers[f"level{place}_activation"] = nn.ReLU()
            layers[f"level{place}_pool"] = nn.MaxPool2d(2)
            channels = width
        self.filters = nn.Sequential(layers)
        self.flatten = nn.Flatten()
        height, width = map_size(size, [(3, 1, 1), (2, 2, 0)] * len(maps))
        self.output = nn.Linear(channels * height * width, features)
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))

    def maps(self, x: Tensor) -> Tensor:
        """(n, maps of the last level · places): what the linear layer sees."""
        if self.standardise is None:
            found: Tensor = self.flatten(self.filters(x))
            return found
        x = self.standardise(x)
        both: Tensor = self.flatten(self.filters(x)) + self.flatten(self.filters(x.flip(3)))
        return both / 2

    def features(self, x: Tensor) -> Tensor:
        """(n, features)."""
        found: Tensor = self.output(self.maps(x))
        return found if self.standardise is None else functional.normalize(found)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        distance = (self.features(first) - self.features(second)).square().sum(1)
        return self.alpha * distance - self.beta


@register(
    "pyramid_cnn",
    Card(
        title="Pyramid CNN",
        year=2014,
        paper="Fan, Cao, Jiang, Yin: Learning Deep Face Representation, arXiv 1403.2802 (2014)",
        input_shape=(1, 48, 40),
        classes=2,
        parameters=72_090,
        published="LFW verification 97.3 % with four levels on several landmarks",
        note="one filter and pooling a level; two pictures in, one number out: below 0 they show one person; the paper "
        "gives no sizes",
        family="faces",
        task="verification",
    ),
)
def pyramid_cnn(
    classes: int = 2,
    in_channels: int = 1,
    maps: Sequence[int] = (16, 24, 32),
    features: int = 64,
    input_size: int | Sequence[int] = (48, 40),
    normalised: bool = False,
) -> nn.Module:
    """48×40 → 16@24×20 → 24@12×10 → 32@6×5 → 64 by default; a level for each of ``maps``. ``normalised``: patches of
    mean 0 and deviation 1, averaged with their mirror images, features of length 1."""
    if isinstance(maps, str) or not isinstance(maps, Sequence) or not maps:
        raise ArgumentError("maps", maps, "a number of maps for each level, e.g. [16, 24, 32]")
    chosen = [whole_number(each, f"maps[{place}]") for place, each in enumerate(maps)]
    height, width = map_size(input_size, [])
    return PyramidCNN(in_channels, chosen, whole_number(features, "features"), (height, width), normalised)
