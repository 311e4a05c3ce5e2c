"""Learned combination of input maps, and its rule."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.conv import Size, whole_number
from convscope.rules.base import Deltas, Gradients, Rule, Saved, rule_for_module
from convscope.rules.conv import Conv
from convscope.shapes import Pair, pair


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


@dataclasses.dataclass(frozen=True)
class Combined(Rule):
    """u_j = Σ_i α_ij·v_i + b_j,   v_i = x_i • k_i,   α_ij = e^(c_ij)/Σ_k e^(c_kj)

        δ_v_i = Σ_j α_ij·δ_j,   δ_x_i = full(δ_v_i, rot180 k_i),   ∂J/∂k_i = valid correlation of x_i with δ_v_i
        ∂J/∂α_ij = Σ_uv δ_j·v_i,   ∂J/∂c_ij = α_ij·(∂J/∂α_ij − Σ_k α_kj·∂J/∂α_kj),   ∂J/∂b_j = Σ_uv δ_j

    Bouvrie 2006, section 3.3. x (n, in, h, w), ``weight`` k (in, kh, kw), ``combination`` c (out, in), b (out,).
    """

    kind = "conv"
    needs = ("filtered", "convolution", "alpha", "has_bias")
    parameters = ("weight", "combination", "bias")

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def forward(
        self, x: Tensor, weight: Tensor, combination: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Saved]:
        filtered, convolution = self._filter(len(weight)).forward(x, weight.unsqueeze(1))  # (n, in, h', w')
        e = torch.exp(combination - combination.amax(1, keepdim=True))
        alpha = e / e.sum(1, keepdim=True)
        u = torch.einsum("ji,nihw->njhw", alpha, filtered)
        u = u if bias is None else u + bias[:, None, None]
        return u, {"filtered": filtered, "convolution": convolution, "alpha": alpha, "has_bias": bias is not None}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        alpha = saved["alpha"]
        deltas, gradients = self._filter(alpha.shape[1]).backward(
            saved["convolution"], torch.einsum("ji,njhw->nihw", alpha, delta)
        )
        of_alpha = torch.einsum("njhw,nihw->ji", delta, saved["filtered"])
        found = {
            "weight": gradients["weight"].squeeze(1),
            "combination": alpha * (of_alpha - (alpha * of_alpha).sum(1, keepdim=True)),
        }
        if saved["has_bias"]:
            found["bias"] = delta.sum((0, 2, 3))
        return deltas, found

    def _filter(self, in_channels: int) -> Conv:
        return Conv(2, self.stride, self.padding, self.dilation, groups=in_channels)


@rule_for_module(CombinedConv2d)
def _(module: CombinedConv2d, x: Tensor) -> Rule:
    return Combined(module.stride, module.padding, module.dilation)


def penalty(model: nn.Module) -> Tensor | None:
    """The sum of every module's ``penalty()`` that is switched on (a positive ``sparsity``); None without any."""
    terms = [module.penalty() for module in model.modules() if isinstance(module, CombinedConv2d) and module.sparsity]
    return sum(terms[1:], terms[0]) if terms else None
