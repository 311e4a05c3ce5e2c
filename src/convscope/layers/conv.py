"""Convolutions that torch lacks: connection tables, true convolution, learned combination of the input maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.connections import Table, connection_table
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.conv import Conv
from convscope.shapes import pair

Size = int | Sequence[int]


def whole_number(value: object, argument: str) -> int:
    """``value`` when it is an integer ≥ 1, else ArgumentError naming ``argument``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(argument, value, "an integer ≥ 1")
    return value


class Conv2d(nn.Conv2d):
    """torch's convolution with one option more: ``flip_kernel=True`` is the true convolution of mathematics.

    u_j = Σ_i x_i ∗ k_ij + b_j, where ∗ rotates the kernel by 180° before it correlates (Xue 2016, eq. (1)); with
    ``flip_kernel=False`` it is the cross-correlation that CNNs use by habit. Input (n, in_channels, h, w), output
    (n, out_channels, h′, w′); sizes are integers or (height, width). Raises ArgumentError for impossible arguments.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        flip_kernel: bool = False,
    ) -> None:
        whole_number(in_channels, "in_channels")
        whole_number(out_channels, "out_channels")
        if in_channels % whole_number(groups, "groups") or out_channels % groups:
            raise ArgumentError("groups", groups, f"a divisor of {in_channels} and {out_channels} channels")
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel_size, "kernel_size"),
            pair(stride, "stride"),
            pair(padding, "padding", minimum=0),
            pair(dilation, "dilation"),
            groups,
            bias,
        )
        self.flip_kernel = bool(flip_kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.weight.flip(2, 3) if self.flip_kernel else self.weight
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        return text + f", flip_kernel={self.flip_kernel}"


@rule_for_module(Conv2d)
def _(module: Conv2d, x: torch.Tensor) -> Rule:
    return Conv(2, module.stride, module.padding, module.dilation, module.groups, true_convolution=module.flip_kernel)


class TableConv2d(nn.Module):
    """Convolution with partial connection: output map j sees only the input maps in M_j.

    u_j = Σ_{i ∈ M_j} x_i ∗ k_ij + b_j (Xue 2016, eq. (2) and (44); Bouvrie 2006, eq. (9)). ``weight`` holds one
    kernel a connection, (connections, kh, kw), ordered by output map, then input map; ``bias`` is (out_channels,).
    ``table`` as in ``connection_table``: with LeNet-5's, 60 kernels of 5×5 and 16 biases are 1,516 parameters.
    Input (n, in_channels, h, w), output (n, out_channels, h′, w′).
    """

    table: torch.Tensor
    output_of: torch.Tensor
    input_of: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        table: Table = "all",
        flip_kernel: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = whole_number(in_channels, "in_channels")
        mask = connection_table(table, in_channels, out_channels)
        self.out_channels = mask.shape[0]
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = pair(stride, "stride")
        self.padding = pair(padding, "padding", minimum=0)
        self.dilation = pair(dilation, "dilation")
        self.flip_kernel = bool(flip_kernel)
        self._input_maps = tuple(tuple(i for i, connected in enumerate(row) if connected) for row in mask.tolist())
        outputs = [output for output, inputs in enumerate(self._input_maps) for _ in inputs]
        inputs = [index for inputs in self._input_maps for index in inputs]
        # Buffers, so that no index travels to a GPU at every call; not persistent, since the options rebuild them.
        self.register_buffer("table", torch.tensor(mask.tolist()), persistent=False)
        self.register_buffer("output_of", torch.tensor(outputs), persistent=False)
        self.register_buffer("input_of", torch.tensor(inputs), persistent=False)
        self.weight = nn.Parameter(torch.empty(sum(map(len, self._input_maps)), *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(self.out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform ±1/√fan_in with each output map's own fan-in, as torch does for the full convolution."""
        bound = self.fans()[0].rsqrt()
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound)
            if self.bias is not None:
                per_map = (self.table.sum(1) * math.prod(self.kernel_size)).rsqrt()
                self.bias.uniform_(-1, 1).mul_(per_map)

    def fans(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Fan-in and fan-out of each connection's kernel, both (connections, 1, 1)."""
        outputs, inputs = self.connections()
        area = math.prod(self.kernel_size)
        fan_in = self.table.sum(1)[outputs] * area
        fan_out = self.table.sum(0)[inputs] * area
        return fan_in.reshape(-1, 1, 1).float(), fan_out.reshape(-1, 1, 1).float()

    def input_maps(self) -> tuple[tuple[int, ...], ...]:
        """M_j for each output map: the indices of its input maps, ascending."""
        return self._input_maps

    def connections(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Index vectors (output map, input map) of all kernels of ``weight``, in order."""
        return self.output_of, self.input_of

    def dense_weight(self) -> torch.Tensor:
        """The kernels as a full convolution's weight (out_channels, in_channels, kh, kw), zero where unconnected."""
        dense = self.weight.new_zeros(self.out_channels, self.in_channels, *self.kernel_size)
        return dense.index_put(self.connections(), self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.dense_weight()
        kernel = kernel.flip(2, 3) if self.flip_kernel else kernel
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}, connections={self.weight.shape[0]}"
        return text + (", flip_kernel=True" if self.flip_kernel else "")


@rule_for_module(TableConv2d)
def _(module: TableConv2d, x: torch.Tensor) -> Rule:
    return Conv(
        2,
        module.stride,
        module.padding,
        module.dilation,
        table=module.input_maps(),
        true_convolution=module.flip_kernel,
    )
