"""Dropout of single units and of whole maps."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module


@dataclasses.dataclass(frozen=True)
class Dropout(Rule):
    """y = x·m/(1 − p),   m = 0 with probability p, else 1;   δ_x = δ·m/(1 − p)

    Hinton et al. 2012, with the kept units scaled up in training instead of scaled down afterwards, so that evaluation
    (``training`` false) is y = x. With ``whole_maps`` one draw decides for a whole channel (n, c, …).
    """

    kind = "dropout"
    needs = ("mask",)
    p: float = 0.5
    training: bool = True
    whole_maps: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError("p", self.p, "a probability from 0 to 1")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        if not self.training or self.p == 0:
            return x, {"mask": None}
        # made, drawn and scaled exactly as torch does, so that the same seed gives the same mask
        mask = x.new_empty((*x.shape[:2], *(1,) * (x.ndim - 2))) if self.whole_maps else torch.empty_like(x)
        mask = mask.bernoulli_(1 - self.p).div_(1 - self.p) if self.p < 1 else mask.zero_()
        return x * mask, {"mask": mask}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        mask = saved["mask"]
        return (delta if mask is None else delta * mask,), {}


@rule_for_module(nn.Dropout)
def _(module: nn.Dropout, x: Tensor) -> Rule:
    return Dropout(module.p, module.training)


@rule_for_module(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def _(module: nn.Dropout2d, x: Tensor) -> Rule | None:
    dims = {nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}[type(module)]
    return Dropout(module.p, module.training, whole_maps=True) if x.ndim == dims + 2 else None


@rule_for_function(F.dropout)
def _(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Applied:
    return Applied(Dropout(p, training), (input,))


@rule_for_function(F.dropout2d)
def _(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Applied | None:
    return Applied(Dropout(p, training, whole_maps=True), (input,)) if input.ndim == 4 else None
