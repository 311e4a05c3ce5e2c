"""Windows over an input, and the exact adjoint of taking them: the ground on which convolution and pooling stand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Sizes = tuple[int, ...]
Edges = tuple[tuple[int, int], ...]
"""(before, after) for each spatial dimension; a negative number cuts off."""


def last(index: Sequence[slice | int]) -> Any:
    """An index of the last dimensions, with all the leading ones kept."""
    return (..., *index)


def pad(x: Tensor, edges: Edges, value: float = 0.0) -> Tensor:
    """x with ``edges`` positions of ``value`` added around its last dimensions, or cut off where negative."""
    dims = len(edges)
    if not any(edge for pair in edges for edge in pair):
        return x
    kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(edges, x.shape[-dims:], strict=True))
    inner = x[last(kept)]
    grown = tuple((max(b, 0), max(a, 0)) for b, a in edges)
    sizes = tuple(n + b + a for n, (b, a) in zip(inner.shape[-dims:], grown, strict=True))
    padded = x.new_full((*x.shape[:-dims], *sizes), value)
    place = tuple(slice(b, b + n) for (b, _), n in zip(grown, inner.shape[-dims:], strict=True))
    padded[last(place)] = inner
    return padded


def unpad(delta: Tensor, edges: Edges) -> Tensor:
    """The adjoint of ``pad``: the padding's share is dropped."""
    return pad(delta, tuple((-before, -after) for before, after in edges))


def windows(x: Tensor, kernel_size: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """All windows of x as a view: (…, *size) → (…, *out, *kernel_size), out = ⌊(size − d(k−1) − 1)/s⌋ + 1."""
    dims = len(kernel_size)
    sizes, steps = x.shape[-dims:], x.stride()
    out = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(sizes, kernel_size, stride, dilation, strict=True))
    over = tuple(step * s for step, s in zip(steps[-dims:], stride, strict=True))
    within = tuple(step * d for step, d in zip(steps[-dims:], dilation, strict=True))
    return x.as_strided((*x.shape[:-dims], *out, *kernel_size), (*steps[:-dims], *over, *within))


def unwindow(parts: Tensor, size: Sequence[int], stride: Sizes, dilation: Sizes) -> Tensor:
    """The adjoint of ``windows``: (…, *out, *kernel_size) → (…, *size), overlapping parts are summed."""
    dims = len(stride)
    out, kernel_size = parts.shape[-2 * dims : -dims], parts.shape[-dims:]
    whole = parts.new_zeros((*parts.shape[: -2 * dims], *size))
    for offset in itertools.product(*(range(k) for k in kernel_size)):
        place = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s) for o, n, s, d in zip(offset, out, stride, dilation, strict=True)
        )
        whole[last(place)] += parts[last(offset)]
    return whole


def rotate180(kernel: Tensor, dims: int) -> Tensor:
    """rot180 over the last ``dims`` dimensions."""
    return torch.flip(kernel, tuple(range(-dims, 0)))
