"""Boxes as differences from other boxes, as R-CNN and its followers learn them.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection, CVPR 2014, appendix C. With
centres x, y, widths w and heights h of a proposal P and of a true box G, a network learns

    t_x = (G_x − P_x) / P_w        t_y = (G_y − P_y) / P_h        t_w = ln(G_w / P_w)        t_h = ln(G_h / P_h)

and what it answers, d, gives back the box (equations 32 to 35)

    Ĝ_x = P_w d_x + P_x            Ĝ_y = P_h d_y + P_y            Ĝ_w = P_w exp(d_w)         Ĝ_h = P_h exp(d_h)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError

#: What Fast R-CNN divides the four differences by, so that they have about unit variance.
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
#: No box is made more than 62.5 times as wide or high: exp() of an untrained answer would be infinite.
MOST = math.log(1000 / 16)


def encode(proposals: Tensor, boxes: Tensor, deviations: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """(k, 4): the differences t of ``boxes`` from ``proposals``, each divided by its one of ``deviations``.

    Both are (k, 4), x₁, y₁, x₂, y₂ with x₁ < x₂ and y₁ < y₂. Raises ArgumentError for other shapes.
    """
    _check(proposals, boxes, "boxes")
    own, wanted = _centred(proposals), _centred(boxes)
    place = (wanted[:, :2] - own[:, :2]) / own[:, 2:]
    size = torch.log(wanted[:, 2:] / own[:, 2:])
    return torch.cat((place, size), 1) / own.new_tensor(deviations)


def decode(proposals: Tensor, differences: Tensor, deviations: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """(k, 4): the boxes that ``differences`` d (k, 4) make of ``proposals``; d_w and d_h above ln 62.5 count so."""
    _check(proposals, differences, "differences")
    own = _centred(proposals)
    d = differences * own.new_tensor(deviations)
    centres = own[:, :2] + d[:, :2] * own[:, 2:]
    half = own[:, 2:] * torch.exp(d[:, 2:].clamp(max=MOST)) / 2
    return torch.cat((centres - half, centres + half), 1)


def _centred(boxes: Tensor) -> Tensor:
    """Centre and size of x₁, y₁, x₂, y₂."""
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.cat((boxes[:, :2] + size / 2, size), 1)


def _check(proposals: Tensor, others: Tensor, name: str) -> None:
    if proposals.ndim != 2 or proposals.shape[1] != 4:
        raise ArgumentError("proposals", tuple(proposals.shape), "boxes of shape (k, 4)")
    if others.shape != proposals.shape:
        raise ArgumentError(name, tuple(others.shape), f"one for each of the proposals, {tuple(proposals.shape)}")
