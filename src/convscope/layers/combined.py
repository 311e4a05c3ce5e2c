"""Learned combination of input maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.conv import Size, whole_number
from convscope.rules.base import Rule, rule_for_module
from convscope.rules.combined import Combined
from convscope.shapes import pair


class CombinedConv2d(nn.Module):
    """Learned combination of input maps (Bouvrie 2006, section 3.3: "learning combinations of feature maps").

    Each input map is filtered by one kernel, and output map j mixes the results: u_j = Σ_i α_ij (x_i ∗ k_i) + b_j
    with α_ij = exp(c_ij) / Σ_k exp(c_kj), so that Σ_i α_ij = 1. ``weight`` is (in_channels, kh, kw), ``combination``
    (c, transposed) is (out_channels, in_channels), ``bias`` (out_channels,).

    ``penalty()`` is sparsity · Σ_j H(α_j), H the entropy −Σ_i α_ij ln α_ij. The notes' own penalty Σ|α_ij| is
    constant (= out_channels) on a softmax and has no gradient; the entropy is the simplest that makes α sparse.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        sparsity: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = whole_number(in_channels, "in_channels")
        self.out_channels = whole_number(out_channels, "out_channels")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = pair(stride, "stride")
        self.padding = pair(padding, "padding", minimum=0)
        self.dilation = pair(dilation, "dilation")
        if not sparsity >= 0:
            raise ArgumentError("sparsity", sparsity, "a number ≥ 0")
        self.sparsity = float(sparsity)
        self.weight = nn.Parameter(torch.empty(in_channels, *self.kernel_size))
        self.combination = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kernels uniform ±1/√(kh·kw); c normal with deviation 1, so that output maps differ from the start."""
        bound = 1 / math.sqrt(math.prod(self.kernel_size))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            self.combination.normal_()
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def fans(self) -> tuple[float, float]:
        """Fan-in and fan-out of a kernel: its own positions, for Σ_i α_ij = 1 keeps the scale of one map."""
        area = float(math.prod(self.kernel_size))
        return area, area

    def alpha(self) -> Tensor:
        """The mixing weights α, (out_channels, in_channels), each row summing to 1."""
        return self.combination.softmax(dim=1)

    def penalty(self) -> Tensor:
        """sparsity · Σ_j H(α_j) in nats, a scalar to add to the loss."""
        log_alpha = self.combination.log_softmax(dim=1)
        return self.sparsity * -(log_alpha.exp() * log_alpha).sum()

    def forward(self, x: Tensor) -> Tensor:
        filtered = F.conv2d(
            x, self.weight.unsqueeze(1), None, self.stride, self.padding, self.dilation, groups=self.in_channels
        )  # (n, in_channels, h', w')
        return F.conv2d(filtered, self.alpha()[:, :, None, None], self.bias)  # (n, out_channels, h', w')

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, sparsity={self.sparsity:g}"


@rule_for_module(CombinedConv2d)
def _(module: CombinedConv2d, x: Tensor) -> Rule:
    return Combined(module.stride, module.padding, module.dilation)


def penalised(model: nn.Module) -> list[CombinedConv2d]:
    """The layers whose ``penalty()`` is switched on, by a positive ``sparsity``."""
    return [module for module in model.modules() if isinstance(module, CombinedConv2d) and module.sparsity]


def penalty(layers: Sequence[CombinedConv2d]) -> Tensor | None:
    """The sum of the penalties of ``layers``, a scalar; None without any. To look for the layers anew in every step
    takes 70 µs of LeNet-5's 7,500."""
    terms = [layer.penalty() for layer in layers]
    return sum(terms[1:], terms[0]) if terms else None
