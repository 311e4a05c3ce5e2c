"""What a writer of tokens minimises: the cross-entropy of every next token, its targets smoothed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from convscope.data.vocabulary import PADDING
from convscope.rules.token_loss import smoothed_cross_entropy
from convscope.training.task import Objective, Scalar


class TokenObjective(Objective):
    """J = the mean over the target's tokens, ends included; ``smoothing`` ε of Vaswani et al. 2017, 5.4."""

    counts = ("right",)

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=PADDING, label_smoothing=self.smoothing
        )

    def value_and_delta(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return smoothed_cross_entropy(outputs, targets, self.smoothing, PADDING)

    def count(self, outputs: Tensor, targets: Tensor) -> Sequence[Scalar]:
        return (((outputs.argmax(2) == targets) & (targets != PADDING)).sum(),)
