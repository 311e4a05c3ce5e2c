"""A classifier's outputs as probabilities, whatever its last layer and its loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.layers import ScaledSigmoid, ScaledTanh, loss_for
from convscope.models.catalog import default_loss


def probabilities(model: nn.Module, outputs: Any) -> Tensor:
    """``model``'s ``outputs`` for some pictures → probabilities (n, classes), in their type and differentiable.

    Softmax of the outputs, for an RBF output softmax of minus the distances (so that one unit of distance is a factor
    e); outputs that end in a sigmoid or tanh are scaled to 0 … 1 and divided by their sum; those that end in a softmax
    are probabilities already.
    """
    scores, last = _scores(model, outputs)
    if isinstance(last, nn.Softmax):
        return scores
    if isinstance(last, nn.LogSoftmax):
        return scores.exp()
    if isinstance(last, nn.Sigmoid | ScaledSigmoid):
        return _shares(scores)
    if isinstance(last, nn.Tanh | ScaledTanh):
        return _shares((scores + 1).clamp(min=0) / 2)
    return scores.softmax(dim=1)


def log_probabilities(model: nn.Module, outputs: Any) -> Tensor:
    """The logarithms of ``probabilities``, of logits without going through them: ln softmax stays finite."""
    scores, last = _scores(model, outputs)
    if isinstance(last, nn.LogSoftmax):
        return scores
    if isinstance(last, nn.Softmax | nn.Sigmoid | ScaledSigmoid | nn.Tanh | ScaledTanh):
        return probabilities(model, outputs).clamp(min=torch.finfo(torch.float32).tiny).log()
    return F.log_softmax(scores, dim=1)


def _scores(model: nn.Module, outputs: Any) -> tuple[Tensor, nn.Module]:
    """The outputs with the largest for the predicted class, and the last layer that has no layers inside."""
    last = [module for module in model.modules() if not list(module.children())][-1]
    return loss_for(default_loss(model), model).predictions(outputs), last


def _shares(values: Tensor) -> Tensor:
    """Each row divided by its sum; a row of zeros becomes even."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total > 0, values / total, torch.full_like(values, 1 / values.shape[1]))
