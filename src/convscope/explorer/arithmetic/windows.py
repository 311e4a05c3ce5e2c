"""The true positions that a sliding window reads, and the windows that read one position; any number of dimensions."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from convscope.explorer.arithmetic.layer import Index, Layer
from convscope.rules.pool import Pool

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Window:
    """A window of ``kernel`` positions, ``dilation`` apart, starting at o·stride − padding for output o."""

    kernel: Index
    stride: Index
    padding: Index
    dilation: Index
    ceil: bool = False

    @property
    def offsets(self) -> Integers:
        """(positions, dimensions): every place within the window, row by row."""
        return np.array(list(itertools.product(*(range(size) for size in self.kernel))), np.int64)

    def read(self, at: Index, size: Index) -> tuple[Integers, Mask]:
        """Positions in the input that output ``at`` reads, and which of them lie inside it."""
        start = np.array(at) * np.array(self.stride) - np.array(self.padding)
        positions = start + self.offsets * np.array(self.dilation)  # (k, d)
        return positions, ((positions >= 0) & (positions < np.array(size))).all(axis=1)

    def readers(self, at: Index, output: Index) -> tuple[Integers, Integers]:
        """(places within the window, outputs): every pair by which input position ``at`` is read."""
        offsets = self.offsets
        ahead = np.array(at) + np.array(self.padding) - offsets * np.array(self.dilation)
        outputs, remainder = np.divmod(ahead, np.array(self.stride))
        hit = ((remainder == 0) & (outputs >= 0) & (outputs < np.array(output))).all(axis=1)
        return offsets[hit], outputs[hit]

    def describe(self) -> dict[str, list[int]]:
        return {
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
        }


def window_of(layer: Layer) -> Window | None:
    """The window of a convolution or pooling; None for every other layer."""
    rule, module = layer.rule, layer.module
    if isinstance(rule, Pool):
        return Window(rule.kernel_size, rule.stride, rule.padding, rule.dilation, rule.ceil_mode)
    if module is None or not hasattr(module, "kernel_size") or layer.family not in ("conv", "subsample"):
        return None
    dims = layer.y.ndim - 2
    kernel = _full(module.kernel_size, dims)
    return Window(
        kernel=kernel,
        stride=_full(module.stride, dims) if getattr(module, "stride", None) is not None else kernel,
        padding=_padding(module, kernel, dims),
        dilation=_full(getattr(module, "dilation", 1), dims),
    )


def adaptive_range(at: Index, size: Index, output: Index) -> tuple[Index, Index]:
    """First and last + 1 position that an adaptive pooling's output ``at`` averages: ⌊o·n/m⌋ … ⌈(o+1)·n/m⌉."""
    first = tuple(o * n // m for o, n, m in zip(at, size, output, strict=True))
    last = tuple(-(-(o + 1) * n // m) for o, n, m in zip(at, size, output, strict=True))
    return first, last


def _full(value: Any, dims: int) -> Index:
    return tuple(int(item) for item in value) if isinstance(value, tuple | list) else (int(value),) * dims


def _padding(module: nn.Module, kernel: Index, dims: int) -> Index:
    padding: Any = getattr(module, "padding", 0)
    if padding == "valid":
        return (0,) * dims
    if padding == "same":  # stride is 1 then; an odd rest goes to the far side
        dilation = _full(getattr(module, "dilation", 1), dims)
        return tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    return _full(padding, dims)
