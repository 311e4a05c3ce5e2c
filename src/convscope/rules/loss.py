"""Losses: each returns (J, ∂J/∂y), the value and the sensitivity with which back-propagation starts.

y are the model's outputs, (n, …) or for classes (n, c); t the targets. ``reduction`` "mean" takes the mean over the
batch, "sum" the sum over it. Every function raises ArgumentError for targets of the wrong shape or classes out of
range.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from convscope.errors import ArgumentError

Reduction = Literal["mean", "sum"]
ValueAndDelta = tuple[Tensor, Tensor]


def squared_error(y: Tensor, t: Tensor, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = ½·Σ_k (t_k − y_k)² summed over the classes,   ∂J/∂y = y − t

    Xue 2016, eq. (4)(18); Bouvrie 2006, eq. (1)(2)(6). With a sigmoid or tanh before it, δ_u = (y − t)·f′(u) gets the
    factor f′, which vanishes where the unit saturates; ``binary_cross_entropy`` has no such factor.
    """
    _check_same_shape(y, t)
    share = _share(y, reduction)
    difference = y - t
    return 0.5 * difference.square().sum() * share, difference * share


def mean_squared_error(y: Tensor, t: Tensor, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = mean_k (y_k − t_k)²,   ∂J/∂y = 2·(y − t)/K   over the K outputs of each example."""
    _check_same_shape(y, t)
    share = _share(y, reduction) * y.shape[0] / max(y.numel(), 1)
    difference = y - t
    return difference.square().sum() * share, 2 * difference * share


def binary_cross_entropy(y: Tensor, t: Tensor, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = −Σ_k [t_k·ln σ(y_k) + (1 − t_k)·ln(1 − σ(y_k))],   ∂J/∂y = σ(y) − t

    y are logits, before the sigmoid, so that the factor σ′ cancels. Stable form: max(y, 0) − y·t + ln(1 + e^(−|y|)).
    """
    _check_same_shape(y, t)
    share = _share(y, reduction)
    value = y.clamp(min=0) - y * t + torch.log1p(torch.exp(-y.abs()))
    delta = (1 - t) * torch.sigmoid(y) - t * torch.sigmoid(-y)  # σ(y) − 1 would be 0 where y is large
    return value.sum() * share, delta * share


def cross_entropy(y: Tensor, t: Tensor, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = −ln p_t with p = softmax(y),   ∂J/∂y = p − onehot(t)

    Softmax and logarithm in one, see ``surprise``.
    """
    _check_classes(y, t)
    share = _share(y, reduction)
    value, delta = surprise(y, t.unsqueeze(1))
    return value.sum() * share, delta * share


def surprise(y: Tensor, t: Tensor) -> ValueAndDelta:
    """(−ln p_t, p − onehot(t)) with p = softmax(y) over dimension 1, of shapes (n, 1, …) and y's (n, c, …)

    t (n, 1, …) are classes. Nothing overflows, and a sure network keeps its loss: of p_t near 1 both are made of what
    the others have, ln(1 + Σ_{k≠t} e^(y_k − y_t)) and −Σ_{k≠t} p_k. As differences of numbers near 1 they lose their
    digits, and are 0 in float32 from a gap of 17 between the logits on, in float64 from 37.
    """
    lowered = y - y.amax(1, keepdim=True)
    own = lowered.gather(1, t)
    rivals = torch.exp(lowered).scatter_(1, t, 0)
    others = rivals.sum(1, keepdim=True)
    total = others + torch.exp(own)
    value = torch.where(own > -1, torch.log1p(others / torch.exp(own)), torch.log(total) - own)
    return value, (rivals / total).scatter_(1, t, 0 - others / total)


def hinge(y: Tensor, t: Tensor, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = (1/c)·Σ_{i ≠ t} max(0, 1 − y_t + y_i)

        ∂J/∂y_i = 1/c where the margin is violated, else 0,   ∂J/∂y_t = −Σ_{i≠t} ∂J/∂y_i

    The multi-class support-vector machine's loss, as ``torch.nn.MultiMarginLoss``.
    """
    _check_classes(y, t)
    share = _share(y, reduction) / y.shape[1]
    rows = torch.arange(len(t), device=y.device)
    margin = 1 - y[rows, t].unsqueeze(1) + y  # (n, c)
    margin[rows, t] = 0
    violated = (margin > 0).to(y.dtype)
    delta = violated.clone()
    delta[rows, t] = -violated.sum(1)
    return margin.clamp(min=0).sum() * share, delta * share


def rbf(y: Tensor, t: Tensor, j: float = 0.1, reduction: Reduction = "mean") -> ValueAndDelta:
    """J = y_t + ln(e^(−j) + Σ_i e^(−y_i)),   ∂J/∂y_i = [i = t] − e^(−y_i) / (e^(−j) + Σ_k e^(−y_k))

    LeCun et al. 1998, eq. (9): y_i are penalties (squared distances from class i's code). The logarithm is the
    competitive term that pushes rivals away; e^(−j) keeps it from pushing those that are far already. The sum runs over
    all classes, t included, by which J stays positive, as the paper states.
    """
    _check_classes(y, t)
    share = _share(y, reduction)
    rivals = torch.cat([-y, y.new_full((len(y), 1), -j)], 1)  # (n, c + 1)
    lowest = rivals.amax(1, keepdim=True)
    e = torch.exp(rivals - lowest)
    total = e.sum(1, keepdim=True)
    rows = torch.arange(len(t), device=y.device)
    value = y[rows, t] + lowest[:, 0] + torch.log(total[:, 0])
    delta = -e[:, :-1] / total
    delta[rows, t] += 1
    return value.sum() * share, delta * share


def pixel_cross_entropy(y: Tensor, t: Tensor, ignored: int = 255, weights: Tensor | None = None) -> ValueAndDelta:
    """J = −(1/m)·Σ_uv w_t·ln p_t with p = softmax(y) at each pixel uv,   ∂J/∂y = w_t·(p − onehot(t))/m

    y (n, c, h, w) are scores, t (n, h, w) classes. The sums run over the m pixels whose t is not ``ignored``; at the
    others ∂J/∂y = 0, and where all are ignored J = 0. ``weights`` (c,) balance classes; m does not change with them, so
    that J stays a mean over the pixels. Long et al. 2015, section 4.
    """
    if y.ndim != 4 or t.shape != (y.shape[0], *y.shape[2:]) or t.is_floating_point():
        raise ArgumentError(
            "targets", f"{tuple(t.shape)} {t.dtype} for outputs {tuple(y.shape)}",
            "class indices (n, h, w) for outputs (n, classes, h, w)",
        )  # fmt: skip
    known = t != ignored
    wrong = t[known & ((t < 0) | (t >= y.shape[1]))]
    if len(wrong):
        raise ArgumentError("targets", wrong[0].item(), f"classes from 0 to {y.shape[1] - 1}, or {ignored}")
    own = torch.where(known, t, 0).unsqueeze(1)  # (n, 1, h, w)
    factor = known.to(y.dtype) if weights is None else torch.where(known, weights.to(y)[own[:, 0]], 0)
    factor = (factor / known.sum().clamp(min=1)).unsqueeze(1)
    value, delta = surprise(y, own)
    return (factor * value).sum(), delta * factor


def _share(y: Tensor, reduction: Reduction) -> float:
    if reduction not in ("mean", "sum"):
        raise ArgumentError("reduction", reduction, '"mean" or "sum"')
    return 1 / max(y.shape[0], 1) if reduction == "mean" else 1.0


def _check_same_shape(y: Tensor, t: Tensor) -> None:
    if y.shape != t.shape:
        raise ArgumentError("targets", tuple(t.shape), f"the shape of the outputs, {tuple(y.shape)}")


def _check_classes(y: Tensor, t: Tensor) -> None:
    if y.ndim != 2:
        raise ArgumentError("outputs", tuple(y.shape), "(n, classes)")
    if t.shape != y.shape[:1] or t.is_floating_point():
        raise ArgumentError("targets", f"{tuple(t.shape)} {t.dtype}", f"{y.shape[0]} class indices")
    if len(t) and (int(t.min()) < 0 or int(t.max()) >= y.shape[1]):
        wrong = t[(t < 0) | (t >= y.shape[1])][0].item()
        raise ArgumentError("targets", wrong, f"classes from 0 to {y.shape[1] - 1}")
