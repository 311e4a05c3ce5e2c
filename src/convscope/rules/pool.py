"""Pooling over windows: max, min, median, mean, sum and L2 norm, in one, two or three dimensions."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved
from convscope.rules.windows import Edges, Sizes, last, pad, unpad, unwindow, windows
from convscope.shapes import full, pool_output_size


@dataclasses.dataclass(frozen=True)
class Pool(Rule):
    """Sizes shared by all pooling over windows: (n, c, *size) → (n, c, *positions).

    ``stride`` defaults to ``kernel_size``; smaller strides overlap. ``ceil_mode`` keeps a last window that hangs over
    the far edge. ``dims`` is the number of spatial dimensions.
    """

    kind = "pool"

    dims: int
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        stride = self.kernel_size if self.stride in (None, ()) else self.stride
        object.__setattr__(self, "kernel_size", full(self.kernel_size, self.dims, "kernel_size"))
        object.__setattr__(self, "stride", full(stride, self.dims, "stride"))
        object.__setattr__(self, "padding", full(self.padding, self.dims, "padding", minimum=0))
        object.__setattr__(self, "dilation", full(self.dilation, self.dims, "dilation"))

    def _edges(self, x: Tensor) -> Edges:
        """Padding before and after, long enough for the last window; negative where no window reaches the far edge."""
        if x.ndim != self.dims + 2:
            raise ArgumentError("x", tuple(x.shape), f"(n, channels, {self.dims} spatial sizes)")
        edges = []
        for n, k, s, p, d in zip(x.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True):
            reach = (pool_output_size(n, k, s, p, d, self.ceil_mode) - 1) * s + d * (k - 1) + 1
            edges.append((p, reach - n - p))
        return tuple(edges)

    def _seen(self, x: Tensor, fill: float) -> Tensor:
        """(n, c, *positions, *kernel); positions outside the input hold ``fill``."""
        return windows(pad(x, self._edges(x), fill), self.kernel_size, self.stride, self.dilation)

    def _back(self, parts: Tensor, size: Sequence[int], edges: Edges) -> Tensor:
        """Each window's share of δ, (n, c, *positions, *kernel) → (n, c, *size)."""
        padded = [n + before + after for n, (before, after) in zip(size, edges, strict=True)]
        return unpad(unwindow(parts, padded, self.stride, self.dilation), edges)

    def _spread(self, delta: Tensor) -> Tensor:
        """δ of a window given whole to each of its positions, as a view: (n, c, *positions, *kernel)."""
        return delta.reshape(*delta.shape, *(1,) * self.dims).expand(*delta.shape, *self.kernel_size)


@dataclasses.dataclass(frozen=True)
class ChoosingPool(Pool):
    """y = x at one chosen position of the window;   δ_x there is the sum of δ over the windows that chose it, else 0.

    With ``return_indices`` the output is (y, the chosen positions counted through the flattened input map).
    """

    needs = ("size", "chosen")
    return_indices: bool = False

    @abstractmethod
    def choose(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(value, index) over the last dimension, which holds a whole window."""

    def fill(self) -> float:
        """What positions outside the input hold, so that they are never chosen."""
        return -math.inf

    def forward(self, x: Tensor) -> tuple[Any, Saved]:
        y, index = self.choose(self._seen(x, self.fill()).flatten(-self.dims))  # (n, c, *positions)
        places = torch.arange(math.prod(x.shape[2:]), device=x.device).reshape(1, 1, *x.shape[2:])
        within = windows(pad(places, self._edges(x)), self.kernel_size, self.stride, self.dilation).flatten(-self.dims)
        within = within.expand(*y.shape, within.shape[-1])
        chosen = within.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        return (y, chosen) if self.return_indices else y, {"size": x.shape, "chosen": chosen}

    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        delta = delta[0] if self.return_indices else delta
        delta_x = delta.new_zeros(*saved["size"][:2], math.prod(saved["size"][2:]))
        delta_x.scatter_add_(2, saved["chosen"].flatten(2), delta.flatten(2))
        return (delta_x.reshape(saved["size"]),), {}


@dataclasses.dataclass(frozen=True)
class MaxPool(ChoosingPool):
    """y = max over the window;   δ goes to the largest element, to the first of equals, the others get 0.

    Xue 2016, on pooling; the worked example [1, 2, 3, 2] → 3 takes δ = 3 back as [0, 0, 3, 0].
    """

    def choose(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        value, index = seen.max(-1)
        return value, index


@dataclasses.dataclass(frozen=True)
class MinPool(ChoosingPool):
    """y = min over the window;   δ goes to the smallest element, to the first of equals, the others get 0."""

    def choose(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        value, index = seen.min(-1)
        return value, index

    def fill(self) -> float:
        return math.inf


@dataclasses.dataclass(frozen=True)
class MedianPool(ChoosingPool):
    """y = median of the window;   δ goes to the element that is the median.

    Of an even number of elements it is the lower of the middle two, as in ``torch.median``, so that y is always one of
    the inputs. Padding is not counted among the elements.
    """

    def choose(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        value, index = seen.nanmedian(-1)
        return value, index

    def fill(self) -> float:
        return math.nan


@dataclasses.dataclass(frozen=True)
class SumPool(Pool):
    """y = Σ x over the window;   every element of the window gets δ."""

    needs = ("size", "edges")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        y = self._seen(x, 0.0).sum(tuple(range(-self.dims, 0)))
        return y, {"size": x.shape[2:], "edges": self._edges(x)}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (self._back(self._spread(delta), saved["size"], saved["edges"]),), {}


@dataclasses.dataclass(frozen=True)
class MeanPool(Pool):
    """y = Σ x / g over the window of g elements;   every element gets δ/g: up(δ) = δ ⊗ 1_{k×k} / k².

    Xue 2016, eq. (22)(23). The much copied sketch that sends [1, 2, 3, 2] → 2 back as [2, 2, 2, 2] shows which elements
    take part; the derivative, computed here, is δ/4 for each: [½, ½, ½, ½]. g counts the padding unless
    ``count_include_pad`` is false, never what hangs over in ``ceil_mode``; ``divisor`` replaces it.
    """

    needs = ("size", "edges", "elements")
    count_include_pad: bool = True
    divisor: int | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        elements = self._elements(x)
        y = self._seen(x, 0.0).sum(tuple(range(-self.dims, 0))) / elements
        return y, {"size": x.shape[2:], "edges": self._edges(x), "elements": elements}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        share = delta / saved["elements"]
        return (self._back(self._spread(share), saved["size"], saved["edges"]),), {}

    def _elements(self, x: Tensor) -> Tensor:
        """g of every window, (1, 1, *positions)."""
        if self.divisor is not None:
            return x.new_full((1,) * x.ndim, self.divisor)
        counted = x.new_ones((1, 1, *x.shape[2:]))
        edges = self._edges(x)
        if self.count_include_pad:
            counted = pad(counted, tuple((p, p) for p in self.padding), 1.0)
            edges = tuple((0, after - p) for (_, after), p in zip(edges, self.padding, strict=True))
        seen = windows(pad(counted, edges), self.kernel_size, self.stride, self.dilation)
        return seen.sum(tuple(range(-self.dims, 0)))


@dataclasses.dataclass(frozen=True)
class L2Pool(Pool):
    """y = √(Σ x²) over the window;   δ_x = δ·x/y, and 0 where y = 0."""

    needs = ("x", "y")

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        y = self._seen(x, 0.0).square().sum(tuple(range(-self.dims, 0))).sqrt()
        return y, {"x": x, "y": y}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        x, y = saved["x"], saved["y"]
        share = torch.where(y > 0, delta / y, torch.zeros_like(y))
        return (x * self._back(self._spread(share), x.shape[2:], self._edges(x)),), {}


@dataclasses.dataclass(frozen=True)
class AdaptiveMeanPool(Rule):
    """y = mean over bins of nearly equal size, as many as ``output_size`` asks for;   every element gets δ/g.

    Along a dimension of n elements bin o of m runs from ⌊o·n/m⌋ to ⌈(o+1)·n/m⌉ − 1, so the mean is a product with one
    averaging matrix A for each dimension, y = A·x, and δ_x = Aᵀ·δ. Size 1 is global mean pooling.
    """

    kind = "pool"
    needs = ("averages",)
    output_size: Sizes | tuple[int | None, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        sizes = bin_counts(x, self.output_size)
        averages = [_averaging_matrix(x, n, m) for n, m in zip(x.shape[2:], sizes, strict=True)]
        y = x
        for dim, average in enumerate(averages, start=2):
            y = (y.movedim(dim, -1) @ average.T).movedim(-1, dim)
        return y, {"averages": averages}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        for dim, average in enumerate(saved["averages"], start=2):
            delta = (delta.movedim(dim, -1) @ average).movedim(-1, dim)
        return (delta,), {}


@dataclasses.dataclass(frozen=True)
class AdaptiveMaxPool(Rule):
    """y = max over bins of nearly equal size;   δ goes to the first largest element of its bin.

    The bins are those of ``AdaptiveMeanPool``. With ``return_indices`` the output is (y, chosen positions).
    """

    kind = "pool"
    needs = ("size", "chosen")
    output_size: Sizes | tuple[int | None, ...]
    return_indices: bool = False

    def forward(self, x: Tensor) -> tuple[Any, Saved]:
        sizes = bin_counts(x, self.output_size)
        places = torch.arange(math.prod(x.shape[2:]), device=x.device).reshape(x.shape[2:])
        y = x.new_empty((*x.shape[:2], *sizes))
        chosen = torch.empty(y.shape, dtype=torch.int64, device=x.device)
        for at in torch.cartesian_prod(*(torch.arange(m) for m in sizes)).reshape(-1, len(sizes)).tolist():
            span = tuple(_bin(o, n, m) for o, n, m in zip(at, x.shape[2:], sizes, strict=True))
            value, index = x[last(span)].flatten(2).max(-1)
            y[last(at)] = value
            chosen[last(at)] = places[span].flatten()[index]
        return (y, chosen) if self.return_indices else y, {"size": x.shape, "chosen": chosen}

    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        delta = delta[0] if self.return_indices else delta
        delta_x = delta.new_zeros(*saved["size"][:2], math.prod(saved["size"][2:]))
        delta_x.scatter_add_(2, saved["chosen"].flatten(2), delta.flatten(2))
        return (delta_x.reshape(saved["size"]),), {}


def bin_counts(x: Tensor, output_size: Sequence[int | None]) -> Sizes:
    """Bins along each spatial dimension; None keeps the input's size."""
    if x.ndim != len(output_size) + 2:
        raise ArgumentError("x", tuple(x.shape), f"(n, channels, {len(output_size)} spatial sizes)")
    return tuple(n if m is None else m for n, m in zip(x.shape[2:], output_size, strict=True))


def _bin(index: int, size: int, bins: int) -> slice:
    return slice(index * size // bins, -(-(index + 1) * size // bins))


def _averaging_matrix(x: Tensor, size: int, bins: int) -> Tensor:
    matrix = x.new_zeros((bins, size))
    for index in range(bins):
        span = _bin(index, size, bins)
        matrix[index, span] = 1 / (span.stop - span.start)
    return matrix
