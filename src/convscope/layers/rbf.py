"""Euclidean radial-basis output units with fixed target codes (LeCun et al. 1998, section II.B)."""

from __future__ import annotations

import torch
from torch import nn

from convscope import seeding
from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.layers.digit_bitmaps import digit_bitmaps
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.rbf import EuclideanRBF


def target_codes(in_features: int, classes: int) -> torch.Tensor:
    """±1 codes (classes, in_features): the digit bitmaps where they fit (84 features, at most ten classes), else
    balanced random codes from a fixed stream, every two of which differ in about half the features."""
    if in_features == 84 and classes <= 10:
        return digit_bitmaps()[:classes].clone()
    stream = seeding.generator(0, "rbf", in_features, classes)
    return torch.randint(0, 2, (classes, in_features), generator=stream).float() * 2 - 1


class RBF(nn.Module):
    """y_i = Σ_j (x_j − w_ij)²: the squared distance to each class's code, small for the right class.

    Input (n, in_features), output (n, out_features). ``weight`` is a buffer, (out_features, in_features), not
    trained; ``codes`` replaces the digit bitmaps. Raises ArgumentError when ``codes`` has another shape.
    """

    weight: torch.Tensor

    def __init__(self, in_features: int = 84, out_features: int = 10, codes: torch.Tensor | None = None) -> None:
        super().__init__()
        self.in_features = whole_number(in_features, "in_features")
        self.out_features = whole_number(out_features, "out_features")
        codes = target_codes(in_features, out_features) if codes is None else codes
        if codes.shape != (out_features, in_features):
            raise ArgumentError("codes", tuple(codes.shape), f"the shape {(out_features, in_features)}")
        self.register_buffer("weight", codes.detach().clone().float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.unsqueeze(1) - self.weight).square().sum(-1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


@rule_for_module(RBF)
def _(module: RBF, x: torch.Tensor) -> Rule:
    return EuclideanRBF()
