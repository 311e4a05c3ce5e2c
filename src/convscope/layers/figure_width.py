"""A layer that makes the figures of pictures equally wide, as the columns of a committee see them."""

from __future__ import annotations

import torch
from torch import nn

from convscope.layers.conv import whole_number
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.figure_width import EqualWidth, equal_width, mixed, mixing_matrices


class FigureWidth(nn.Module):
    """Scales each picture's figure (what is brighter than ``threshold``) horizontally to ``width`` columns.

    Input and output (n, channels, height, w), pictures on a ground of 0. With ``levels`` the result is rounded to
    multiples of 1/levels: ``FigureWidth(14, levels=255)`` of pixels as 0 … 1 is what ``Preprocessing(width=14)`` makes
    of the pixels. Nothing is trained. See ``EqualWidth`` for the equations; Cireşan, Meier, Schmidhuber 2012.
    """

    def __init__(self, width: int, threshold: float = 0.0, levels: int | None = None) -> None:
        super().__init__()
        self.width = whole_number(width, "width")
        self.threshold = threshold
        self.levels = levels if levels is None else whole_number(levels, "levels")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixing = mixing_matrices(x, self.width, self.threshold)
        y = mixed(x, mixing)
        if self.levels is None:
            return y
        return y + (equal_width(x, mixing, self.levels) - y).detach()  # the rounding lets δ through

    def extra_repr(self) -> str:
        return f"{self.width}, threshold={self.threshold}, levels={self.levels}"


@rule_for_module(FigureWidth)
def _(module: FigureWidth, x: torch.Tensor) -> Rule:
    return EqualWidth(module.width, module.threshold, module.levels)
