"""DeconvNet: what pooling took away is put back where it came from, stage by stage.

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from convscope.layers.conv import whole_number
from convscope.models.blocks import he_fan_out
from convscope.models.catalog import Card, register
from convscope.models.fcn import body_of
from convscope.models.vgg import STAGES

PAPER = "Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015"


class DeconvNet(nn.Module):
    """Pictures (n, c, h, w) → scores (n, classes, h, w) for every pixel.

    ``encoder`` are VGG's stages, each followed by a 2×2 max pooling that records its maxima; ``fc6`` and ``fc7`` see
    ``fc_size`` × ``fc_size`` cells, and ``deconv6`` gives them back. ``decoder`` is the encoder's mirror image: each
    stage puts its maps to the recorded places and fills the gaps by transposed convolutions. Every layer is followed by
    batch normalisation and a ReLU. Height and width are at least 32·``fc_size``.
    """

    def __init__(
        self, column: str, maps: tuple[int, ...], in_channels: int, classes: int, hidden: int, fc_size: int
    ) -> None:
        super().__init__()
        self.encoder, self.pools = nn.ModuleList(), nn.ModuleList()
        self.unpools, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for place, (kernel_sizes, own) in enumerate(zip(STAGES[column], maps, strict=True)):
            count = len(kernel_sizes)
            self.encoder.append(nn.Sequential(*_layers([before, *[own] * count])))
            below = maps[max(place - 1, 0)]
            self.decoder.insert(0, nn.Sequential(*_layers([*[own] * count, below], back=True)))
            self.pools.append(nn.MaxPool2d(2, 2, return_indices=True))
            self.unpools.append(nn.MaxUnpool2d(2, 2))
            before = own
        self.fc6 = nn.Sequential(nn.Conv2d(before, hidden, fc_size), nn.BatchNorm2d(hidden), nn.ReLU())
        self.fc7 = nn.Sequential(nn.Conv2d(hidden, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.deconv6 = nn.Sequential(nn.ConvTranspose2d(hidden, before, fc_size), nn.BatchNorm2d(before), nn.ReLU())
        self.score = nn.Conv2d(maps[0], classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                he_fan_out(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        recorded = []
        for stage, pool in zip(self.encoder, self.pools, strict=True):
            maps = stage(x)
            x, places = pool(maps)
            recorded.append((places, maps.size()))
        x = self.deconv6(self.fc7(self.fc6(x)))
        for unpool, stage, (places, size) in zip(self.unpools, self.decoder, reversed(recorded), strict=True):
            x = stage(unpool(x, places, size))
        scores: Tensor = self.score(x)
        return scores


def _layers(maps: list[int], back: bool = False) -> list[nn.Module]:
    """3×3 layers from each number of maps to the next, transposed on the way back."""
    layers: list[nn.Module] = []
    kind = nn.ConvTranspose2d if back else nn.Conv2d
    for before, after in itertools.pairwise(maps):
        layers += [kind(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return layers


@register(
    "deconvnet",
    Card(
        title="DeconvNet: unpooling by recorded maxima",
        year=2015,
        paper=PAPER,
        input_shape=(3, 224, 224),
        classes=21,
        parameters=251_805_653,
        published="Pascal VOC 2012 test mean IoU 69.6 % (single network, on proposals)",
        note="VGG16's layers with batch normalisation and their mirror image",
        family="fcn",
        task="segmentation",
        shapes=(
            ("fc6", (4096, 1, 1)),
            ("fc7", (4096, 1, 1)),
            ("deconv6", (512, 7, 7)),
            ("decoder.0", (512, 14, 14)),
            ("decoder.1", (256, 28, 28)),
            ("decoder.2", (128, 56, 56)),
            ("decoder.3", (64, 112, 112)),
            ("decoder.4", (64, 224, 224)),
        ),
        economical=(("small", True), ("width", 0.25)),
    ),
)
def deconvnet(
    classes: int = 21,
    in_channels: int = 3,
    body: str | None = None,
    width: float = 1.0,
    hidden: int | None = None,
    small: bool = False,
) -> nn.Module:
    """``body`` is one of VGG's, by default "vgg16", its maps times ``width``; ``hidden`` are the maps of ``fc6`` and
    ``fc7``. Batch normalisation is there whatever the body's name says.

    ``small=True`` is for a computer without a GPU: "vgg11" with 32 to 128 maps and 256 hidden ones, which see one cell
    of 32×32 pixels at a time.
    """
    column, _, maps = body_of(body, small, width)
    many = whole_number(hidden or (max(1, round(256 * width)) if small else 4096), "hidden")
    return DeconvNet(column, maps, in_channels, classes, many, 1 if small else 7)
