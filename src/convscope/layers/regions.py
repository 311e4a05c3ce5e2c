"""Pooling of regions of interest, by torchvision's names and results: ``roi_pool``, ``roi_align``, and as layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from convscope.layers.fast_regions import fast_way
from convscope.rules import regions as rules
from convscope.rules.base import Applied, rule_for_function, rule_for_module
from convscope.rules.regions import Boxes

OutputSize = int | Sequence[int]


def _given(input: Tensor, boxes: Boxes) -> tuple[Tensor, ...]:
    return (input, boxes) if isinstance(boxes, Tensor) else (input, *boxes)


def roi_pool(input: Tensor, boxes: Boxes, output_size: OutputSize, spatial_scale: float = 1.0) -> Tensor:
    """The largest value of each bin of each region: (n, c, h, w) → (k, c, *output_size).

    ``boxes``: (k, 5) of (picture, x1, y1, x2, y2), or a list of one (l, 4) for each picture, in pixels; a map of
    ``spatial_scale`` places a pixel. Rounding, bins and what is beyond the map as in ``rules.regions.RoIPool``
    (Girshick 2015; Xue 2016, eq. 40). Gradients go to ``input``, none to ``boxes``. Raises ArgumentError for shapes
    and numbers that cannot be.
    """
    given = _given(input, boxes)
    if has_torch_function(given):
        found: Tensor = handle_torch_function(roi_pool, given, input, boxes, output_size, spatial_scale)
        return found
    size = rules.checked(output_size, spatial_scale)
    fast = fast_way("pool", input)
    if fast is not None:
        return fast(input, *rules.bins_of(input, boxes, size, spatial_scale))
    chosen = rules.maxima(input, boxes, size, spatial_scale)
    values = input.reshape(-1).gather(0, chosen.clamp(min=0).flatten()).reshape(chosen.shape)
    return torch.where(chosen >= 0, values, 0)


def roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: OutputSize,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean of bilinear samples in each bin of each region: (n, c, h, w) → (k, c, *output_size).

    Arguments as of ``roi_pool``; ``sampling_ratio`` samples a bin and direction, −1: as many as the bin has places,
    rounded up; ``aligned``: places count between the centres of pixels, which is exact (He et al. 2017; see
    ``rules.regions.RoIAlign``). Gradients go to ``input``, none to ``boxes``. Raises ArgumentError for shapes and
    numbers that cannot be.
    """
    given = _given(input, boxes)
    if has_torch_function(given):
        found: Tensor = handle_torch_function(
            roi_align, given, input, boxes, output_size, spatial_scale, sampling_ratio, aligned
        )
        return found
    size = rules.checked(output_size, spatial_scale, sampling_ratio)
    rule = rules.RoIAlign(size, spatial_scale, sampling_ratio, aligned)
    mixing = rules.samplings(input, boxes, rule)
    fast = fast_way("mix", input)
    return rules.sampled(input, *mixing) if fast is None else fast(input, *mixing)


class RoIPool(nn.Module):
    """``roi_pool`` as a layer of two inputs: maps (n, c, h, w) and boxes; see there."""

    def __init__(self, output_size: OutputSize, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = rules.checked(output_size, spatial_scale), spatial_scale

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class RoIAlign(nn.Module):
    """``roi_align`` as a layer of two inputs: maps (n, c, h, w) and boxes; see there."""

    def __init__(
        self, output_size: OutputSize, spatial_scale: float, sampling_ratio: int, aligned: bool = False
    ) -> None:
        super().__init__()
        self.output_size = rules.checked(output_size, spatial_scale, sampling_ratio)
        self.spatial_scale, self.sampling_ratio, self.aligned = spatial_scale, sampling_ratio, bool(aligned)

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        size = f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"
        return f"{size}, sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"


@rule_for_function(roi_pool)
def _(input: Tensor, boxes: Boxes, output_size: OutputSize, spatial_scale: float = 1.0) -> Applied:
    return Applied(rules.RoIPool(rules.checked(output_size, spatial_scale), spatial_scale), _given(input, boxes))


@rule_for_function(roi_align)
def _(
    input: Tensor,
    boxes: Boxes,
    output_size: OutputSize,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Applied:
    size = rules.checked(output_size, spatial_scale, sampling_ratio)
    return Applied(rules.RoIAlign(size, spatial_scale, sampling_ratio, aligned), _given(input, boxes))


@rule_for_module(RoIPool)
def _(module: RoIPool, input: Tensor, rois: Boxes) -> Applied:
    return Applied(rules.RoIPool(module.output_size, module.spatial_scale), _given(input, rois))


@rule_for_module(RoIAlign)
def _(module: RoIAlign, input: Tensor, rois: Boxes) -> Applied:
    rule = rules.RoIAlign(module.output_size, module.spatial_scale, module.sampling_ratio, module.aligned)
    return Applied(rule, _given(input, rois))
