"""Embeddings: a row of numbers for each token."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module


@dataclasses.dataclass(frozen=True)
class Embedding(Rule):
    """y_p = W_(x_p),   row x_p of W for the token at every place p;   ∂J/∂W_k = Σ_(p: x_p = k) δ_p

    The product of W with a one-hot vector, without the zeros: x int64 of any shape, W (tokens, size), y (…, size). A
    token has no δ. The row of ``padding`` learns nothing; with ``by_frequency`` a row's gradient is divided by how
    often the token comes in x. ArgumentError for a token that W has no row for.
    """

    kind = "embedding"
    needs = ("x", "rows")
    parameters = ("weight",)
    padding: int | None = None
    by_frequency: bool = False

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Saved]:
        if x.is_floating_point() or x.dtype == torch.bool:
            raise ArgumentError("x", f"{x.dtype} {tuple(x.shape)}", "token numbers, integers")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= len(weight)):
            wrong = x[(x < 0) | (x >= len(weight))][0].item()
            raise ArgumentError("x", wrong, f"token numbers from 0 to {len(weight) - 1}")
        return weight[x], {"x": x, "rows": len(weight)}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (None,), self.gradients(saved, delta)

    def deltas(self, saved: Saved, delta: Tensor) -> Deltas:
        return (None,)

    def gradients(self, saved: Saved, delta: Tensor) -> Gradients:
        tokens = saved["x"].reshape(-1)
        parts = delta.reshape(len(tokens), -1)
        if self.by_frequency:
            parts = parts / torch.bincount(tokens, minlength=saved["rows"])[tokens, None]
        gradient = delta.new_zeros(saved["rows"], parts.shape[1]).index_add_(0, tokens, parts)
        if self.padding is not None:
            gradient[self.padding] = 0
        return {"weight": gradient}


@rule_for_module(nn.Embedding)
def _(module: nn.Embedding, input: Tensor) -> Rule | None:
    if module.max_norm is not None or module.sparse:  # the one changes W in place, the other has a gradient of its own
        return None
    return Embedding(module.padding_idx, module.scale_grad_by_freq)


@rule_for_function(F.embedding)
def _(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Applied | None:
    if max_norm is not None or sparse:
        return None
    padding = padding_idx if padding_idx is None else padding_idx % len(weight)
    return Applied(Embedding(padding, scale_grad_by_freq), (input,), {"weight": weight})
