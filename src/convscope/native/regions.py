"""The engine's kernels of boxes and regions of interest, enrolled for ``convscope.ops``: float32 tensors on the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy
import torch
from torch import Tensor

from convscope.layers.fast_regions import FAST
from convscope.native import availability, processors


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


class _Pooled(torch.autograd.Function):
    """y of maps x and the bins of regions; see ``rules.regions.RoIPool``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pictures: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Any:
        y = x.new_empty(len(pictures), x.shape[1], top.shape[1], left.shape[1])
        chosen = torch.empty(y.shape, dtype=torch.int32)
        bins = [_array(each) for each in (top, bottom, left, right)]
        availability.engine().pool_regions(
            _array(x), _array(pictures), *bins, y.numpy(), chosen.numpy(), processors.threads()
        )
        ctx.save_for_backward(chosen, pictures)
        ctx.size = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Any:
        chosen, pictures = ctx.saved_tensors
        return (_PooledBack.apply(delta, chosen, pictures, ctx.size), *[None] * 5)  # type: ignore[no-untyped-call]


class _PooledBack(torch.autograd.Function):
    """δ_x of δ_y: each δ where its maximum was; linear in δ, so that its own way back is to look there."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, chosen: Tensor, pictures: Tensor, size: torch.Size) -> Tensor:
        delta_x = delta.new_zeros(size)
        availability.engine().pool_regions_back(
            _array(delta), chosen.numpy(), _array(pictures), delta_x.numpy(), processors.threads()
        )
        ctx.save_for_backward(chosen, pictures)
        return delta_x

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> Any:
        chosen, pictures = ctx.saved_tensors
        places = chosen.clamp(min=0).long().flatten(2)
        found = second.flatten(2)[pictures].gather(2, places).reshape(chosen.shape)
        return torch.where(chosen >= 0, found, 0), None, None, None


class _Mixed(torch.autograd.Function):
    """A_r·x·B_rᵀ of each region; see ``rules.regions.RoIAlign``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
        y = x.new_empty(len(pictures), x.shape[1], down.shape[1], across.shape[1])
        matrices = _array(down), _array(across)
        availability.engine().mix_regions(_array(x), _array(pictures), *matrices, y.numpy(), processors.threads())
        ctx.save_for_backward(pictures, down, across)
        ctx.size = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Any:
        return (_MixedBack.apply(delta, *ctx.saved_tensors, ctx.size), None, None, None)  # type: ignore[no-untyped-call]


class _MixedBack(torch.autograd.Function):
    """Σ_r A_rᵀ·δ_r·B_r; linear in δ, and its own way back is ``_Mixed``."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, pictures: Tensor, down: Tensor, across: Tensor, size: torch.Size) -> Tensor:
        delta_x = delta.new_zeros(size)
        matrices = _array(down), _array(across)
        availability.engine().mix_regions_back(
            _array(delta), _array(pictures), *matrices, delta_x.numpy(), processors.threads()
        )
        ctx.save_for_backward(pictures, down, across)
        return delta_x

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> Any:
        return (_Mixed.apply(second, *ctx.saved_tensors), None, None, None, None)  # type: ignore[no-untyped-call]


def _pool(x: Tensor, pictures: Tensor, bins: tuple[Tensor, ...]) -> Tensor:
    y: Tensor = _Pooled.apply(x, pictures, *bins)  # type: ignore[no-untyped-call]
    return y


def _mix(x: Tensor, pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
    y: Tensor = _Mixed.apply(x, pictures, down, across)  # type: ignore[no-untyped-call]
    return y


def _suppress(corners: Tensor, groups: Tensor | None, threshold: float) -> Tensor:
    """Places of the boxes (n, 4), by falling score, that stay."""
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept = torch.empty(len(corners), dtype=torch.int64)
    most = numpy.float32(threshold)
    if float(most) > threshold:  # an overlap in float32 is above the threshold where it is above the float32 below it
        most = numpy.nextafter(most, numpy.float32(-math.inf))
    own = None if groups is None else _array(groups.unique(return_inverse=True)[1])  # type: ignore[no-untyped-call]
    count = availability.engine().suppress_boxes(_array(corners.T), _array(area), own, float(most), kept.numpy())
    return kept[:count]


if availability.available() and hasattr(availability.engine(), "pool_regions"):
    FAST.update(pool=_pool, mix=_mix, suppress=_suppress)
