"""What a writer of tokens minimises: the cross-entropy of every next token, its targets smoothed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.data.vocabulary import PADDING
from convscope.rules.token_loss import smoothed_cross_entropy
from convscope.tasks.token_loss_in_parts import TokenLoss, likeliest
from convscope.training.task import Objective, Scalar


class TokenObjective(Objective):
    """J = the mean over the target's tokens, ends included; ``smoothing`` ε of Vaswani et al. 2017, 5.4."""

    counts = ("right",)

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        scores, tokens = outputs.flatten(0, 1), targets.flatten()
        if scores.device.type == "cpu" and not torch.compiler.is_compiling():
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            loss: Tensor = TokenLoss.apply(scores, tokens, self.smoothing, PADDING)  # type: ignore[no-untyped-call]
            return loss
        return F.cross_entropy(scores, tokens, ignore_index=PADDING, label_smoothing=self.smoothing)

    def value_and_delta(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return smoothed_cross_entropy(outputs, targets, self.smoothing, PADDING)

    def count(self, outputs: Tensor, targets: Tensor) -> Sequence[Scalar]:
        return (((likeliest(outputs) == targets) & (targets != PADDING)).sum(),)
