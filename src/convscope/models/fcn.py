"""Fully convolutional networks: a classifier made to answer for every pixel, by up-sampling and skip connections.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.conv import whole_number
from convscope.models.blocks import he_fan_out, normal
from convscope.models.catalog import Builder, Card, register
from convscope.models.vgg import MAPS, features

PAPER = "Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015"

#: Bodies by name: the column of VGG's table, and whether with batch normalisation.
BODIES = {
    f"vgg{depth}{ending}": (column, bool(ending))
    for depth, column in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))
    for ending in ("", "_bn")
}
_SMALL_WIDTHS = (32, 64, 128, 128, 128)
Upsampling = Literal["learned", "fixed"]


def bilinear_kernel(stride: int) -> Tensor:
    """(2·stride, 2·stride): the kernel with which a transposed convolution of this even stride interpolates bilinearly,
    k(i) = 1 − |i − (stride − ½)| / stride along each side."""
    places = torch.arange(2 * stride, dtype=torch.float32)
    line = 1 - (places - (stride - 0.5)).abs() / stride
    return line[:, None] * line[None, :]


def up(classes: int, stride: int, learned: bool = True) -> nn.ConvTranspose2d:
    """Up-sampling by ``stride``: every class by itself at the start, and, where it is ``learned``, by any kernels
    between all classes later. (n, classes, h, w) → (n, classes, (h + 1)·stride, (w + 1)·stride)."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * stride, stride, bias=False)
    start_bilinear(layer)
    layer.weight.requires_grad_(learned)
    return layer


def start_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Every map by itself, between its values in straight lines."""
    with torch.no_grad():
        layer.weight.zero_()
        own = torch.arange(layer.in_channels)
        layer.weight[own, own] = bilinear_kernel(layer.stride[0]).to(layer.weight)


class FCN(nn.Module):
    """Pictures (n, c, h, w) of any size → scores (n, classes, h, w) for every pixel.

    ``body`` is VGG's convolutional part; ``fc6`` and ``fc7`` are its fully connected layers as convolutions, and
    ``score_fr`` gives the classes' scores every 32 pixels. ``stride`` 32 up-samples these at once. 16 first doubles
    them and adds the scores of the fourth pooling's maps, 8 does the same once more with the third's. State-dict keys
    of ``features`` are those of the classifier.

    ``reach``: a pixel's scores depend on pixels at most so far away, and the same network on a part that begins at a
    multiple of ``step`` pixels gives the same there; ``tasks.segmentation`` cuts large pictures by this.
    """

    step = 32

    def __init__(
        self,
        body: list[nn.Module],
        maps: tuple[int, ...],
        classes: int,
        stride: int,
        hidden: int = 4096,
        fc_size: int = 7,
        padding: int = 100,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.features = nn.Sequential(*body)
        self.ends = tuple(place for place, layer in enumerate(body) if isinstance(layer, nn.MaxPool2d))
        same = padding == 1
        self.fc6 = nn.Conv2d(maps[4], hidden, fc_size, padding=fc_size // 2 if same else 0)
        self.relu6, self.drop6 = nn.ReLU(), nn.Dropout(0.5)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.relu7, self.drop7 = nn.ReLU(), nn.Dropout(0.5)
        self.score_fr = nn.Conv2d(hidden, classes, 1)
        if stride < 32:
            self.upscore2 = up(classes, 2, learned)
            self.score_pool4 = nn.Conv2d(maps[3], classes, 1)
        if stride < 16:
            self.upscore_pool4 = up(classes, 2, learned)
            self.score_pool3 = nn.Conv2d(maps[2], classes, 1)
        self.add_module(f"upscore{stride}", up(classes, stride, learned))
        self._start()
        self.crops, self.offset = aligned(padding - 1, 0 if same else fc_size // 2)
        self.reach = _reach(body, fc_size) + sum(s for s in (32, 16, 8) if s >= stride)

    def _start(self) -> None:
        """He's weights, and small scores at random."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                scores = name.startswith("score")
                (normal(0.01) if scores else he_fan_out)(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.own_start()

    def own_start(self) -> None:
        """Up-sampling begins bilinear, and the skips as if they were not there (the paper's section 4.2)."""
        for name, module in self.named_children():
            if isinstance(module, nn.ConvTranspose2d):
                start_bilinear(module)
            elif isinstance(module, nn.Conv2d) and name.startswith("score_pool"):
                nn.init.zeros_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        pooled = []
        y = x
        for place, layer in enumerate(self.features):
            y = layer(y)
            if place in self.ends:
                pooled.append(y)
        y = self.drop6(self.relu6(self.fc6(y)))
        y = self.score_fr(self.drop7(self.relu7(self.fc7(y))))
        if self.stride < 32:
            y = _joined(self.upscore2(y), self.score_pool4(pooled[3]), self.crops[16])
        if self.stride < 16:
            y = _joined(self.upscore_pool4(y), self.score_pool3(pooled[2]), self.crops[8])
        y = self.get_submodule(f"upscore{self.stride}")(y)
        first = self.offset[self.stride]
        scores: Tensor = y[:, :, first : first + height, first : first + width]
        return scores

    def carried_over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A classifier's state, or that of an FCN of another stride, as this network takes it: fully connected layers
        as kernels, what belongs to the other's answers left out, and this one's own start for what the other has not.

        Scores of another number of classes begin anew.
        """
        found = dict(state)
        for layer, name in (("0", "fc6"), ("3", "fc7")):
            for leaf in ("weight", "bias"):
                value = found.pop(f"classifier.{layer}.{leaf}", None)
                if value is not None:
                    own = self.get_parameter(f"{name}.{leaf}")
                    fits = value.numel() == own.numel() and len(value) == len(own)
                    found[f"{name}.{leaf}"] = value.reshape(own.shape) if fits else value
        found = {name: value for name, value in found.items() if not name.startswith("classifier.6.")}
        own_state = self.state_dict()
        answers = [name for name in own_state if name.startswith(("score", "upscore"))]
        others = ("upscore", "score_pool")
        found = {name: value for name, value in found.items() if name in own_state or not name.startswith(others)}
        if "score_fr.bias" in found and found["score_fr.bias"].shape != own_state["score_fr.bias"].shape:
            found = {name: value for name, value in found.items() if name not in answers}
        return {**{name: own_state[name] for name in answers}, **found}


def aligned(shift: int, lost: int) -> tuple[dict[int, int], dict[int, int]]:
    """How the maps lie over each other: (crops, offsets) by stride.

    ``shift`` is how far the first layer's maps reach beyond the picture on the left, ``lost`` how many cells ``fc6``
    takes off. A crop of k ≥ 0 takes the skip's maps from cell k on, one below 0 the doubled scores from −k on; the
    up-sampled scores of stride s are taken from pixel offsets[s] on. Each follows from where the cells' centres are in
    the picture: those of a pooling by s at s·j + (s − 1)/2 − shift, those of a transposed convolution's output at the
    (p + ½)/s − ½ − ½th cell. With the paper's padding of 100 they are its crops: 5, 9 and 19, 27, 31.
    """
    centre = 32 * lost + 15.5 - shift  # of the first score; the next ones follow every 32 pixels
    offsets, crops = {32: round(31.5 - centre)}, {}
    for stride in (16, 8):
        first = centre - 1.5 * stride  # of the first doubled score
        pool = (stride - 1) / 2 - shift
        crops[stride] = round((first - pool) / stride)
        centre = max(first, pool)
        offsets[stride] = round(stride - 0.5 - centre)
    return crops, offsets


def _joined(doubled: Tensor, skip: Tensor, crop: int) -> Tensor:
    if crop >= 0:
        return doubled + skip[:, :, crop : crop + doubled.shape[2], crop : crop + doubled.shape[3]]
    return doubled[:, :, -crop : skip.shape[2] - crop, -crop : skip.shape[3] - crop] + skip


def _reach(body: list[nn.Module], fc_size: int) -> int:
    """Half the receptive field of a score, in pixels; 202 of VGG16, whose field is 404 wide."""
    field, jump = 1, 1
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            field += (layer.kernel_size[0] - 1) * jump
        elif isinstance(layer, nn.MaxPool2d):
            field, jump = field + jump, 2 * jump
    return (field + (fc_size - 1) * jump + 1) // 2


def _builder(stride: int) -> Builder:
    def build(
        classes: int = 21,
        in_channels: int = 3,
        body: str | None = None,
        width: float = 1.0,
        hidden: int | None = None,
        upsampling: Upsampling = "learned",
        small: bool = False,
    ) -> nn.Module:
        """``body`` is one of VGG's, by default "vgg16", its maps times ``width``; ``hidden`` are the maps of ``fc6``
        and ``fc7``. The paper pads the picture by 100 pixels.

        ``small=True`` is for a computer without a GPU: "vgg11_bn" with 32 to 128 maps and 256 hidden ones, 3×3 kernels
        in ``fc6``, and all layers padded alike, which a picture of 240×180 costs a quarter of what it does with 100.
        ``upsampling="fixed"`` leaves all up-sampling bilinear.
        """
        if upsampling not in ("learned", "fixed"):
            raise UnknownNameError("upsampling", upsampling, ("learned", "fixed"))
        column, batch_norm, maps = body_of(body, small, width)
        padding = 1 if small else 100
        layers = features(column, in_channels, batch_norm, widths=maps)
        first = layers[0]
        assert isinstance(first, nn.Conv2d)
        first.padding = (padding, padding)
        for layer in layers:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True  # as Caffe pools: a last row of its own
        size = 3 if small else 7
        many = hidden or (max(1, round(256 * width)) if small else 4096)
        return FCN(layers, maps, classes, stride, many, size, padding, upsampling == "learned")

    return build


def body_of(body: str | None, small: bool, width: float) -> tuple[str, bool, tuple[int, ...]]:
    """(column of VGG's table, batch normalisation, maps of the five stages); UnknownNameError for another body,
    ArgumentError for a width that is none."""
    name = body or ("vgg11_bn" if small else "vgg16")
    if name not in BODIES:
        raise UnknownNameError("body", name, BODIES)
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 8:
        raise ArgumentError("width", width, "a factor on the number of maps, above 0 and up to 8")
    column, batch_norm = BODIES[name]
    widths = _SMALL_WIDTHS if small else MAPS
    return column, batch_norm, tuple(whole_number(max(1, round(maps * width)), "width") for maps in widths)


def _enrol(stride: int, parameters: int, published: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
    card = Card(
        title=f"Fully convolutional network, {stride} pixels a score",
        year=2015,
        paper=PAPER,
        input_shape=(3, 375, 500),
        classes=21,
        parameters=parameters,
        published=published,
        note="VGG16's layers by the classifier's names, shapes, padding and crops as in the authors' Caffe networks; "
        "`weights=` takes a classifier of the same body, or an FCN of another stride",
        family="fcn",
        task="segmentation",
        minimum_size=32,
        shapes=shapes,
        economical=(("small", True), ("width", 0.0625)),
    )
    register(f"fcn{stride}s", card)(_builder(stride))


_BODY = (("fc6", (4096, 12, 16)), ("fc7", (4096, 12, 16)), ("score_fr", (21, 12, 16)))
_enrol(32, 136_152_917, "Pascal VOC 2011 mean IoU 59.4 %", (*_BODY, ("upscore32", (21, 416, 544))))
_enrol(
    16,
    134_815_994,
    "Pascal VOC 2011 mean IoU 62.4 %",
    (*_BODY, ("upscore2", (21, 26, 34)), ("upscore16", (21, 432, 560))),
)
_enrol(8, 134_489_759, "Pascal VOC 2011 mean IoU 62.7 %, 2012 test 62.2 %", (*_BODY, ("upscore8", (21, 440, 568))))
