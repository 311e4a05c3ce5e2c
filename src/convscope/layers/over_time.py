"""Layers of sentence classifiers and readers of lines: the largest over time, what lies within a picture's own width,
and an output whose weights are kept short."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules import over_time as rules
from convscope.rules.base import Applied, Rule, rule_for_module
from convscope.rules.dense import Dense


class MaxOverTime(nn.Module):
    """y_c = the largest of x_ct over the places t of a sequence (Collobert et al. 2011).

    Input (n, c, t) and, for sequences of unequal length, ``lengths``, int64 (n,); output (n, c). The first
    ``lengths`` + ``extra`` places count; a convolution of width k with padding k − 1 has k − 1 extra ones.
    """

    def __init__(self, extra: int = 0) -> None:
        super().__init__()
        if not isinstance(extra, int) or extra < 0:
            raise ArgumentError("extra", extra, "a number of places ≥ 0")
        self.extra = extra

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        within = rules.reach_of(x, lengths, self.extra)
        return (x if within is None else x.masked_fill(~within, -torch.inf)).max(2).values

    def extra_repr(self) -> str:
        return f"extra={self.extra}"


@rule_for_module(MaxOverTime)
def _(module: MaxOverTime, x: Tensor, lengths: Tensor | None = None) -> Applied:
    return Applied(rules.MaxOverTime(module.extra), (x, lengths))


class KeepColumns(nn.Module):
    """What lies beyond a picture's own width, and only fills up a batch, becomes 0.

    Input and output (n, c, h, w); ``widths``, int64 (n,), are those of the pictures, ``stride`` times as wide as the
    maps here.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = whole_number(stride, "stride")

    def forward(self, x: Tensor, widths: Tensor | None = None) -> Tensor:
        kept = rules.columns_of(x, widths, self.stride)
        return x if kept is None else x * kept

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


@rule_for_module(KeepColumns)
def _(module: KeepColumns, x: Tensor, widths: Tensor | None = None) -> Applied:
    return Applied(rules.KeepColumns(module.stride), (x, widths))


class MaxNormLinear(nn.Linear):
    """A fully connected layer whose rows of weights are never longer than ``limit``: a longer one is scaled back
    before it is next used (Hinton et al. 2012, section 2; Kim 2014 with limit 3).

    Input (n, in_features), output (n, out_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, limit: float = 3.0) -> None:
        super().__init__(in_features, out_features, bias)
        if not limit > 0:
            raise ArgumentError("limit", limit, "a length above 0")
        self.limit = limit

    def forward(self, input: Tensor) -> Tensor:
        self.shorten()
        return F.linear(input, self.weight, self.bias)

    @torch.no_grad()
    def shorten(self) -> None:
        """Scale back the rows that are too long."""
        lengths = self.weight.norm(dim=1, keepdim=True)
        if bool((lengths > self.limit).any()):
            self.weight.mul_((self.limit / lengths).clamp(max=1))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, limit={self.limit}"


@rule_for_module(MaxNormLinear)
def _(module: MaxNormLinear, input: Tensor) -> Rule:
    module.shorten()
    return Dense()
