"""Writing in place as functions of values: what a graph holds where the model changed memory that others see.

A graph names values, not memory. Where the model changed a part of a tensor in place (``h[:, 1] = y``,
``h.view(-1).mul_(2)``), the whole has a new value from then on: ``with_part`` and ``with_item``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

View = tuple[str, Sequence[Any], dict[str, Any], Sequence[int]]
"""One step from a tensor to a part of it: a tensor's method, its arguments, and which of its results."""


def with_part(whole: Tensor, part: Tensor, views: Sequence[View], straight: bool = False) -> Tensor:
    """``whole`` with ``part`` in the place that ``views`` lead to.

    δ_part = that part of δ,   δ_whole = δ with zeros there. ``straight``: autograd did not see the writing, so δ_whole
    = δ and δ_part = 0.
    """
    result = whole.clone()
    if straight:
        follow(result.detach(), views).copy_(part.detach())
    else:
        follow(result, views).copy_(part)
    return result


def with_item(whole: Tensor, index: Any, value: Any) -> Tensor:
    """``whole`` with ``whole[index] = value``:   δ_value = δ[index] summed over what was stretched,   δ_whole = δ with
    zeros there."""
    result = whole.clone()
    result[index] = value
    return result


def update(held: Tensor, value: Tensor) -> None:
    """The model changed a tensor that outlives the call (a buffer, say) to this value."""
    with torch.no_grad():
        if held is not value:
            held.copy_(value)


def follow(tensor: Tensor, views: Sequence[View]) -> Tensor:
    """The part of ``tensor`` that ``views`` lead to."""
    for method, args, keywords, path in views:
        found: Any
        if method == "__getitem__":
            found = operator.getitem(tensor, args[0])
        elif method == "as_strided":  # offsets count from the tensor's own beginning
            size, stride, offset = args
            found = tensor.as_strided(size, stride, tensor.storage_offset() + offset)
        else:
            found = getattr(tensor, method)(*args, **keywords)
        for key in path:
            found = found[key]
        tensor = found
    return tensor
