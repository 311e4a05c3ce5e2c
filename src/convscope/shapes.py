"""Sizes: int-or-pair arguments made whole at the door, and the output sizes of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convscope.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple[int, int]


def full(value: int | Sequence[int], dims: int, argument: str, minimum: int = 1) -> tuple[int, ...]:
    """``3`` or ``(3, 5)`` as a tuple of ``dims`` ints, each at least ``minimum``.

    Raises ArgumentError naming ``argument`` for a wrong length, a wrong type or a value below the minimum.
    """
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    wanted = f"an integer ≥ {minimum}, or {dims} of them"
    if len(values) != dims:
        raise ArgumentError(argument, value, wanted)
    for item in values:
        if not isinstance(item, int) or isinstance(item, bool) or item < minimum:
            raise ArgumentError(argument, value, wanted)
    return tuple(int(item) for item in values)


def pair(value: int | Sequence[int], argument: str, minimum: int = 1) -> Pair:
    """``full`` for two dimensions: (height, width)."""
    height, width = full(value, 2, argument, minimum)
    return height, width


def conv_output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """⌊(n + 2p − d(k−1) − 1)/s⌋ + 1, the output size of a convolution along one dimension.

    Raises ArgumentError when the (dilated) kernel does not fit into the padded input.
    """
    reach = dilation * (kernel_size - 1) + 1
    if size + 2 * padding < reach:
        raise ArgumentError(
            "kernel_size",
            kernel_size,
            f"a kernel that fits into the input: {size} + 2·{padding} (padding) positions, "
            f"but the kernel reaches over {reach} (dilation {dilation})",
        )
    return (size + 2 * padding - reach) // stride + 1


def pool_output_size(
    size: int, kernel_size: int, stride: int, padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Output size of pooling along one dimension; with ``ceil_mode`` a last window may hang over the far edge.

    As in torch, such a window must start inside the input or its leading padding, otherwise it is dropped.
    """
    if 2 * padding > kernel_size:
        raise ArgumentError("padding", padding, f"at most half the kernel size, {kernel_size // 2}")
    if not ceil_mode:
        return conv_output_size(size, kernel_size, stride, padding, dilation)
    span = size + 2 * padding - dilation * (kernel_size - 1) - 1
    count = -(-span // stride) + 1
    count = count - 1 if (count - 1) * stride >= size + padding else count
    # a window larger than the input may hang over it, but by less than a stride
    return count if count > 0 else conv_output_size(size, kernel_size, stride, padding, dilation)


def check_dense(argument: str, tensor: Tensor) -> None:
    """ArgumentError for a tensor whose numbers do not lie in memory one after another: sparse, of another library's
    layout (mkldnn), or without numbers at all (meta)."""
    if tensor.device.type == "meta":
        raise ArgumentError(argument, "a meta tensor", "a dense tensor with its numbers")
    if str(tensor.layout) != "torch.strided":
        layout = str(tensor.layout).removeprefix("torch.").removeprefix("_")
        raise ArgumentError(argument, f"a {layout} tensor", "a dense tensor with its numbers", "to_dense() makes one")
