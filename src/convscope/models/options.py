"""Options that several builders share: activations and poolings by name, and the size of the maps they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from convscope import shapes
from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers import L2Pool2d, MedianPool2d, MinPool2d, SumPool2d, activation

__all__ = ["activation", "map_size", "pooling"]

POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "mean": nn.AvgPool2d,
    "max": nn.MaxPool2d,
    "sum": SumPool2d,
    "l2": L2Pool2d,
    "min": MinPool2d,
    "median": MedianPool2d,
}


def pooling(name: str, size: int) -> nn.Module:
    """A pooling over size × size windows that do not overlap; UnknownNameError for a name that is none."""
    if name not in POOLINGS:
        raise UnknownNameError("pool", name, POOLINGS)
    return POOLINGS[name](size)


def map_size(input_size: int | Sequence[int], steps: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Height and width of the maps after layers of (kernel_size, stride, padding), from an input of ``input_size``.

    Raises ArgumentError naming ``input_size`` when a window does not fit any more.
    """
    sizes = []
    for start in shapes.pair(input_size, "input_size"):
        size = start
        for kernel_size, stride, padding in steps:
            if size + 2 * padding < kernel_size:
                raise ArgumentError("input_size", input_size, "a larger picture: a window no longer fits into the maps")
            size = shapes.conv_output_size(size, kernel_size, stride, padding)
        sizes.append(size)
    return sizes[0], sizes[1]
