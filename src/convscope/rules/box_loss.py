"""The losses of boxes: smooth L1, and Fast R-CNN's of class and place together, value and δ written out.

Girshick: Fast R-CNN, ICCV 2015, section 2.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.errors import ArgumentError


def smooth_l1(y: Tensor, t: Tensor, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Element by element, with x = y − t (equation 39, where β = 1):

        smooth(x) = x² / 2β      where |x| < β         smooth′(x) = x / β
                    |x| − β/2    elsewhere                          sign(x)

    Returns both, of y's shape. Raises ArgumentError for targets of another shape and for β ≤ 0.
    """
    if y.shape != t.shape:
        raise ArgumentError("targets", tuple(t.shape), f"numbers of the outputs' shape, {tuple(y.shape)}")
    if not beta > 0:
        raise ArgumentError("beta", beta, "a number > 0")
    x = y - t
    near = x.abs() < beta
    value = torch.where(near, x * x / (2 * beta), x.abs() - beta / 2)
    return value, torch.where(near, x / beta, x.sign())


def two_tasks(
    scores: Tensor, differences: Tensor, labels: Tensor, targets: Tensor, weights: Tensor, balance: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """J = Σ_r w_r (L_cls + λ [u ≥ 1] L_loc) over regions r (equations 37 and 38), with

        L_cls = −ln p_u,   p = softmax(scores)          ∂L_cls/∂scores = p − onehot(u)
        L_loc = Σ_i smooth(d_{u,i} − v_i)               ∂L_loc/∂d_{u,i} = smooth′(d_{u,i} − v_i)

    ``scores`` (r, c + 1), class 0 being background; ``differences`` d (r, c + 1, 4); ``labels`` u int64 (r,);
    ``targets`` v (r, 4); ``weights`` w (r,); ``balance`` λ. Returns the sums Σ w L_cls and λ Σ w [u ≥ 1] L_loc, and the
    deltas of scores and differences.
    """
    rows = torch.arange(len(labels), device=labels.device)
    log_p = torch.log_softmax(scores, 1)
    by_class = -(weights * log_p[rows, labels]).sum()
    delta_scores = log_p.exp()
    delta_scores[rows, labels] -= 1
    delta_scores = delta_scores * weights[:, None]
    some = balance * weights * (labels >= 1).to(weights.dtype)
    value, slope = smooth_l1(differences[rows, labels], targets)
    by_place = (some[:, None] * value).sum()
    delta_differences = torch.zeros_like(differences)
    delta_differences[rows, labels] = some[:, None] * slope
    return by_class, by_place, delta_scores, delta_differences
