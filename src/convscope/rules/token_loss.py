"""The loss of token after token, with label smoothing."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.loss import ValueAndDelta, surprise


def smoothed_cross_entropy(y: Tensor, t: Tensor, smoothing: float = 0.0, ignored: int | None = None) -> ValueAndDelta:
    """J = −(1/m)·Σ_p Σ_k q_pk·ln p_pk,   q = (1 − ε)·onehot(t) + ε/c,   ∂J/∂y_p = (softmax(y_p) − q_p)/m

    Szegedy et al. 2016, section 7; ε = ``smoothing``, c the number of tokens there are. y (…, c) are logits, t (…)
    token numbers; places where t is ``ignored`` (padding) count nothing, the m others share the mean. ArgumentError
    where nothing is left.
    """
    if t.shape != y.shape[:-1] or t.is_floating_point():
        raise ArgumentError("targets", f"{tuple(t.shape)} {t.dtype}", f"token numbers of shape {tuple(y.shape[:-1])}")
    if not 0 <= smoothing < 1:
        raise ArgumentError("smoothing", smoothing, "a share from 0 to below 1")
    counted = torch.ones_like(t, dtype=torch.bool) if ignored is None else t != ignored
    real = t[counted]
    if not len(real):
        raise ArgumentError("targets", f"{t.numel()} tokens, all of them {ignored}", "at least one token that counts")
    if int(real.min()) < 0 or int(real.max()) >= y.shape[-1]:
        wrong = real[(real < 0) | (real >= y.shape[-1])][0].item()
        raise ArgumentError("targets", wrong, f"tokens from 0 to {y.shape[-1] - 1}")
    rows, own = y[counted], real[:, None]  # (m, c), (m, 1)
    value, to_own = surprise(rows, own)
    if smoothing:  # −ln p_k = −ln p_t + (y_t − y_k)
        value = value + smoothing * (rows.gather(1, own) - rows).mean(1, keepdim=True)
        to_own = to_own - smoothing / y.shape[-1]
        to_own.scatter_add_(1, own, torch.full_like(value, smoothing))
    delta = torch.zeros_like(y)
    delta[counted] = to_own / len(real)
    return value.sum() / len(real), delta
