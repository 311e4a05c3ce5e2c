"""Fast R-CNN: one pass over a picture, and regions of its maps pooled to one size and classified.

Girshick: Fast R-CNN, ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers import RoIAlign, RoIPool
from convscope.layers.box_coding import DEVIATIONS
from convscope.layers.conv import whole_number
from convscope.models.blocks import he_fan_out, normal
from convscope.models.catalog import Card, register
from convscope.models.detector_bodies import SMALL, Body, body_of
from convscope.models.picture_pyramid import in_pyramid

PAPER = "Girshick: Fast R-CNN, ICCV 2015"
GRID = 7
Pooling = Literal["max", "align"]


class Regions(NamedTuple):
    """What a detector answers of n pictures with r regions and c classes; boxes are x₁, y₁, x₂, y₂ in pixels.

    ``rois`` (r, 5), the picture's number before each box, all of one picture together; ``sizes`` (n, 2), heights and
    widths of the pictures; ``scores`` (r, c + 1), class 0 being background; ``differences`` (r, c + 1, 4), for each
    class from the region to its box (``layers.box_coding``). A network that proposes its own regions answers for all
    its ``anchors`` (a, 4) too: ``objectness`` (n, a) logits, ``anchor_differences`` (n, a, 4).
    """

    rois: Tensor
    sizes: Tensor
    scores: Tensor
    differences: Tensor
    anchors: Tensor | None = None
    objectness: Tensor | None = None
    anchor_differences: Tensor | None = None


class BoxHead(nn.Module):
    """Two fully connected layers with ReLU and dropout; keys ``fc6`` and ``fc7`` as torchvision's."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(in_features, hidden), nn.Linear(hidden, hidden)
        self.relu6, self.relu7 = nn.ReLU(), nn.ReLU()
        self.drop6, self.drop7 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop6(self.relu6(self.fc6(torch.flatten(x, 1))))
        y: Tensor = self.drop7(self.relu7(self.fc7(x)))
        return y


class BoxPredictor(nn.Module):
    """Scores of the classes and background, and four differences for each; keys as torchvision's."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 * (classes + 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.cls_score(x)
        return scores, self.bbox_pred(x).reshape(len(x), scores.shape[1], 4)


class RoIHeads(nn.Module):
    """Maps (n, maps, h, w) and regions (r, 5) → scores (r, c + 1) and differences (r, c + 1, 4)."""

    def __init__(self, body: Body, classes: int, hidden: int, dropout: float, pooling: Pooling) -> None:
        super().__init__()
        self.pool: nn.Module
        if pooling == "max":
            self.pool = RoIPool(GRID, 1 / body.stride)
        else:
            self.pool = RoIAlign(GRID, 1 / body.stride, sampling_ratio=2, aligned=True)
        self.box_head = BoxHead(body.maps * GRID * GRID, hidden, dropout)
        self.box_predictor = BoxPredictor(hidden, classes)

    def forward(self, maps: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        scores, differences = self.box_predictor(self.box_head(self.pool(maps, rois)))
        return scores, differences


class FastRCNN(nn.Module):
    """Pictures (n, c, h, w), their own sizes (n, 2) and regions (r, 5) → ``Regions``.

    Regions are in pixels, the picture's number before each; all of one picture together. ``stride`` pixels are a place
    of the body's maps, ``deviations`` is what the differences are divided by. ``pyramid`` and, of a training pass,
    ``levels``: see ``in_pyramid``.
    """

    proposes = False
    picture_part = "backbone"  # what takes pictures alone, so that the native engine can do it
    deviations = DEVIATIONS
    background = 0.1  # the least overlap of a region that is learned as background (section 2.3)

    def __init__(self, body: Body, classes: int, hidden: int, dropout: float, pooling: Pooling) -> None:
        super().__init__()
        self.stride = body.stride
        self._pyramid: tuple[float, ...] = ()  # of the task's settings, so no option of the network's own
        self.backbone = nn.Sequential(*body.layers)
        self.roi_heads = RoIHeads(body, classes, hidden, dropout, pooling)
        start(self)

    @property
    def pyramid(self) -> tuple[float, ...]:
        """The factors by which pictures are made larger, (): only as they come; the setting ``scales`` sets them."""
        return self._pyramid

    @pyramid.setter
    def pyramid(self, factors: tuple[float, ...]) -> None:
        self._pyramid = factors

    def forward(self, pictures: Tensor, sizes: Tensor, rois: Tensor, levels: Tensor | None = None) -> Regions:
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise ArgumentError("rois", tuple(rois.shape), "regions of shape (r, 5): the picture's number and a box")
        if self.pyramid:
            scores, differences = in_pyramid(self, pictures, rois, levels)
        else:
            scores, differences = self.roi_heads(self.backbone(pictures), rois)
        return Regions(rois, sizes.to(scores), scores, differences)

    def carried_over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A classifier's state, or another detector's, as this network takes it: see ``carried_over``."""
        return carried_over(self, state)


def start(model: nn.Module) -> None:
    """He's weights in the body, and in the answers the paper's: N(0, 0.01²) for the classes, N(0, 0.001²) for boxes."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if name.endswith("box_predictor.bbox_pred"):
            normal(0.001)(module.weight)
        elif name.endswith(("box_predictor.cls_score", "cls_logits", "rpn.head.bbox_pred", "rpn.head.conv.0.0")):
            normal(0.01)(module.weight)
        else:
            he_fan_out(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


_OF_A_CLASSIFIER = {"classifier.0": "roi_heads.box_head.fc6", "classifier.3": "roi_heads.box_head.fc7"}


def carried_over(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a classifier with the same body (its ``features`` and hidden layers), or of another detector, by
    this model's names. A classifier's answers are left out, and so are the parts of a detector that this one does not
    have, or has in another shape: those begin as in this model."""
    own = model.state_dict()
    found = {name: value for name, value in own.items() if not name.startswith("backbone.")}
    for name, value in state.items():
        name = name.replace("features.", "backbone.", 1) if name.startswith("features.") else name
        layer, _, leaf = name.rpartition(".")
        name = f"{_OF_A_CLASSIFIER[layer]}.{leaf}" if layer in _OF_A_CLASSIFIER else name
        replaceable = name.startswith(("classifier.", "rpn.", "roi_heads."))
        if not replaceable or (name in own and own[name].shape == value.shape):
            found[name] = value
    return found


def checked_pooling(pooling: str | None, small: bool) -> Pooling:
    """``pooling``, or where it is None "align" of a small network and "max" of the paper's."""
    if pooling is None:
        return "align" if small else "max"
    if pooling not in ("max", "align"):
        raise UnknownNameError("pooling", pooling, ("max", "align"))
    return pooling  # type: ignore[return-value]


def chosen_units(hidden: int | None, small: bool) -> int:
    """The units of ``fc6`` and ``fc7`` asked for; None: 256 of a small network, else the paper's 4096."""
    if hidden is None:
        return 256 if small else 4096
    return whole_number(hidden, "hidden")


def chosen_body(body: str | None, small: bool, in_channels: int, width: float) -> Body:
    """The body asked for; None: "small" of a small network, else the paper's VGG16."""
    return body_of(body or (SMALL if small else "vgg16"), in_channels, width)


@register(
    "fast_rcnn",
    Card(
        title="Fast R-CNN",
        year=2015,
        paper=PAPER,
        input_shape=(3, 600, 1000),
        classes=20,
        parameters=134_690_729,
        published="Pascal VOC 2007 mAP 66.9 %, 2012 68.4 % (07++12)",
        note="VGG16's layers under torchvision's keys for detectors; regions come with the pictures; `weights=` takes "
        "a classifier of the same body or another detector",
        family="rcnn",
        task="detection",
        minimum_size=32,
        economical=(("small", True), ("width", 0.25), ("hidden", 16)),
    ),
)
def fast_rcnn(
    classes: int = 20,
    in_channels: int = 3,
    body: str | None = None,
    width: float = 1.0,
    hidden: int | None = None,
    dropout: float = 0.5,
    pooling: str | None = None,
    small: bool = False,
) -> nn.Module:
    """``body`` is one of VGG's ("vgg16" by default) or "small", ``hidden`` the units of ``fc6`` and ``fc7``; regions
    are pooled by ``pooling``, "max" or "align".

    ``small=True`` is for a computer without a GPU: the small body, 256 hidden units, aligned regions, no dropout.
    """
    units, chosen = chosen_units(hidden, small), chosen_body(body, small, in_channels, width)
    return FastRCNN(chosen, classes, units, 0.0 if small else dropout, checked_pooling(pooling, small))
