"""LeCun's trainable subsampling layer."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.activations import activation as make_activation
from convscope.layers.activations import activation_rule
from convscope.layers.conv import Size, whole_number
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.subsample import Subsample
from convscope.shapes import pair


class Subsample2d(nn.Module):
    """Trainable subsampling: u_j = β_j·down(x_j) + b_j, y_j = f(u_j), down the sum over each window.

    Input (n, channels, h, w), output (n, channels, h′, w′); windows do not overlap unless ``stride`` is smaller than
    ``kernel_size``. ``weight`` is β, ``bias`` is b, both (channels,). ``activation`` is a name that
    ``convscope.layers.activation`` takes: "sigmoid", "tanh", "scaled_tanh", "relu", "linear" … Bouvrie 2006, section
    3.2; LeCun et al. 1998 (S2 and S4, whose 2·6 and 2·16 parameters these are); Xue 2016, eq. (3) is the case
    β = 1/(kh·kw) fixed.
    """

    def __init__(
        self, channels: int, kernel_size: Size = 2, stride: Size | None = None, activation: str = "scaled_tanh"
    ) -> None:
        super().__init__()
        self.channels = whole_number(channels, "channels")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "stride")
        activation_rule(activation)  # refuses a name that it does not know
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """β = 1/(kh·kw), b = 0: the layer starts as mean pooling."""
        with torch.no_grad():
            self.weight.fill_(1 / (self.kernel_size[0] * self.kernel_size[1]))
            self.bias.zero_()

    def pre_activation(self, x: torch.Tensor) -> torch.Tensor:
        """u = β·down(x) + b, (n, channels, h′, w′)."""
        if x.shape[1] != self.channels:
            raise ArgumentError("x", tuple(x.shape), f"{self.channels} channels")
        down = F.avg_pool2d(x, self.kernel_size, self.stride, divisor_override=1)
        return self.weight[:, None, None] * down + self.bias[:, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = _function(self.activation)(self.pre_activation(x))
        return y

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, activation={self.activation}"


@functools.cache
def _function(name: str) -> nn.Module:
    """The activation; without state, so that all layers share it, none of which it is a part of."""
    return make_activation(name)


@rule_for_module(Subsample2d)
def _(module: Subsample2d, x: torch.Tensor) -> Rule:
    return Subsample(module.kernel_size, module.stride, activation_rule(module.activation))
