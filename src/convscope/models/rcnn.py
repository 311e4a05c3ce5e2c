"""R-CNN: every region warped to one size and put through a classifier by itself.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection, CVPR 2014.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from convscope.layers.conv import whole_number
from convscope.layers.regions import roi_align
from convscope.models.alexnet import alexnet_2012
from convscope.models.blocks import he_fan_out, normal
from convscope.models.catalog import Card, register
from convscope.models.fast_rcnn import Regions

PAPER = "Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection, CVPR 2014"
SIDE, CONTEXT = 227, 16  # of a warped region, and how much of each edge is from around it
_SMALL_SIDE = 32
_TOGETHER = 512  # regions that are warped and put through the network at once


class RCNN(nn.Module):
    """Pictures (n, c, h, w), their own sizes (n, 2) and regions (r, 5) → ``Regions``.

    ``features`` are the convolutions, up to the last pooling; ``fc6`` and ``fc7`` follow. ``cls_score`` are a softmax's
    scores, or with ``svm`` the margins of one linear support vector machine a class. ``bbox_pred`` gives differences
    from the last pooling's maps; they are 0, the regions themselves, until a ridge regression has set them.
    """

    proposes = False
    picture_part = "features"  # what takes pictures alone, so that the native engine can do it
    deviations = (1.0, 1.0, 1.0, 1.0)
    learned = ("class",)  # the parts of the loss that the network learns by; boxes come from a regression
    background = 0.0

    def __init__(
        self, body: list[nn.Module], in_channels: int, classes: int, side: int, hidden: int, dropout: float, svm: bool
    ) -> None:
        super().__init__()
        self.side, self.margins = side, svm
        self.context = max(1, round(CONTEXT * side / SIDE))
        self.features = nn.Sequential(*body)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            like = next(self.features.parameters())
            training, maps = self.features.training, self.features.eval()
            self.maps = maps(like.new_zeros(1, in_channels, side, side)).numel()
            self.features.train(training)
        self.fc6, self.relu6, self.drop6 = nn.Linear(self.maps, hidden), nn.ReLU(), nn.Dropout(dropout)
        self.fc7, self.relu7, self.drop7 = nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(self.maps, 4 * (classes + 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                (normal(0.01) if module is self.cls_score else he_fan_out)(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.bbox_pred.weight)

    def windows(self, boxes: Tensor) -> Tensor:
        """(r, 4): what is warped of regions (r, 4), themselves and what is around them."""
        grown = (boxes[:, 2:] - boxes[:, :2]) * (self.context / (self.side - 2 * self.context))
        return torch.cat((boxes[:, :2] - grown, boxes[:, 2:] + grown), 1)

    def warped(self, pictures: Tensor, rois: Tensor) -> Tensor:
        """(r, c, side, side): each region with ``context`` pixels of its surroundings at every edge, in the warped
        picture's pixels; what is beyond the picture is 0, the mean colour."""
        windows = torch.cat((rois[:, :1], self.windows(rois[:, 1:])), 1)
        return roi_align(pictures, windows, self.side, 1.0, 1, True)

    def seen(self, warped: Tensor) -> tuple[Tensor, Tensor]:
        """(last pooling's maps (k, m), ``fc7``'s units (k, hidden)) of warped regions (k, c, side, side)."""
        maps = torch.flatten(self.features(warped), 1)
        units = self.drop6(self.relu6(self.fc6(maps)))
        return maps, self.drop7(self.relu7(self.fc7(units)))

    def answers(self, maps: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (k, classes + 1) and differences (k, classes + 1, 4)."""
        scores = self.cls_score(units)
        # learned apart, from maps as they are: no gradient goes from boxes into the network
        return scores, self.bbox_pred(maps.detach()).reshape(len(maps), scores.shape[1], 4)

    def parts(self, pictures: Tensor, rois: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """``seen`` of some regions after others."""
        for some in torch.split(rois, _TOGETHER) if len(rois) else (rois,):
            yield self.seen(self.warped(pictures, some))

    def forward(self, pictures: Tensor, sizes: Tensor, rois: Tensor) -> Regions:
        answers = [self.answers(*each) for each in self.parts(pictures, rois)]
        scores, differences = (torch.cat(each) for each in zip(*answers, strict=True))
        return Regions(rois, sizes.to(pictures), scores, differences)

    def carried_over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of the fine-tuned network, for one with support vector machines, or the reverse."""
        return dict(state)


def _small(in_channels: int, width: float) -> list[nn.Module]:
    """Three stages of a 3×3 convolution, batch normalisation and 2×2 max pooling: 32×32 → 4×4 maps."""
    layers: list[nn.Module] = []
    for maps in (max(4, round(each * width)) for each in (24, 48, 64)):
        layers += [nn.Conv2d(in_channels, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        in_channels = maps
    return layers


@register(
    "rcnn",
    Card(
        title="R-CNN",
        year=2014,
        paper=PAPER,
        input_shape=(3, 375, 500),
        classes=20,
        parameters=57_728_489,
        published="Pascal VOC 2010 mAP 50.2 %, with bounding-box regression 53.7 %",
        note="AlexNet of 2012 on every region; `svm=True` has the margins of support vector machines for scores, which "
        "the stages of `convscope experiment rcnn_family` fit",
        family="rcnn",
        task="detection",
        minimum_size=32,
        economical=(("small", True), ("width", 0.25), ("hidden", 16)),
    ),
)
def rcnn(
    classes: int = 20,
    in_channels: int = 3,
    width: float = 1.0,
    hidden: int | None = None,
    dropout: float = 0.5,
    svm: bool = False,
    small: bool = False,
) -> nn.Module:
    """Regions of 227×227 through AlexNet's convolutions, 4096 units in ``fc6`` and ``fc7``.

    ``small=True`` is for a computer without a GPU: regions of 32×32, three convolutions of ``width`` times 24, 48 and
    64 maps, 128 hidden units, no dropout.
    """
    if small:
        body, side, units = _small(in_channels, width), _SMALL_SIDE, 128
    else:
        whole = alexnet_2012(1, in_channels, hidden=1)
        layers = list(whole.children())
        end = next(place for place, layer in enumerate(layers) if isinstance(layer, nn.Flatten))
        body, side, units = layers[:end], SIDE, 4096
    units = units if hidden is None else whole_number(hidden, "hidden")
    return RCNN(body, in_channels, classes, side, units, 0.0 if small else dropout, svm)
