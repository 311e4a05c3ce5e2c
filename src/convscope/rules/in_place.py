"""What a graph holds where the model changed a part of a tensor in place: the whole, with the part in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.graph import memory
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function
from convscope.rules.combine import unbroadcast


@dataclasses.dataclass(frozen=True)
class WithPart(Rule):
    """y = x but p in the place that ``views`` lead to,   δ_p = δ there,   δ_x = δ with 0 there.

    ``straight``: the part was written unseen by autograd, so δ_x = δ and p has none.
    """

    kind = "combine"
    needs = ("whole",)
    views: Sequence[memory.View]
    straight: bool = False

    def forward(self, whole: Tensor, part: Tensor) -> tuple[Tensor, Saved]:
        return memory.with_part(whole, part, self.views, self.straight), {"whole": whole}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        if self.straight:
            return (delta, None), {}
        to_whole = torch.empty_like(saved["whole"]).copy_(delta)  # lies in memory as the whole does
        to_part = memory.follow(to_whole, self.views).clone()
        memory.follow(to_whole, self.views).zero_()
        return (to_whole, to_part), {}


@dataclasses.dataclass(frozen=True)
class WithItem(Rule):
    """y = x but y[index] = v,   δ_v = δ[index] summed over what was stretched,   δ_x = δ with 0 at index."""

    kind = "combine"
    needs = ("shape",)
    index: Any

    def forward(self, whole: Tensor, value: Tensor | float) -> tuple[Tensor, Saved]:
        shape = value.shape if isinstance(value, Tensor) else None
        return memory.with_item(whole, self.index, value), {"shape": shape}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        to_whole = delta.clone()
        to_whole[self.index] = 0
        to_value = unbroadcast(delta[self.index], saved["shape"])
        return (to_whole, to_value), {}


@rule_for_function(memory.with_part)
def _(whole: Tensor, part: Tensor, views: Sequence[memory.View], straight: bool = False) -> Applied | None:
    if not whole.is_floating_point() or part.dtype != whole.dtype:
        return None
    return Applied(WithPart(views, straight), (whole, part))


@rule_for_function(memory.with_item)
def _(whole: Tensor, index: Any, value: Any) -> Applied | None:
    known = value.dtype == whole.dtype if isinstance(value, Tensor) else isinstance(value, int | float)
    return Applied(WithItem(index), (whole, value)) if whole.is_floating_point() and known else None
