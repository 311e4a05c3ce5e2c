"""What a reader of lines minimises, and how its scores are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.rules.ctc import CTCLoss
from convscope.rules.softmax import LogSoftmax
from convscope.tasks.lines.decoding import beam, greedy
from convscope.training.task import Objective, Scalar


class LineObjective(Objective):
    """J = the mean over the lines of −ln p(text), all alignments added up (CTC); a line too narrow for its text counts
    nothing. ``width`` 1 reads the likeliest path, a larger one by a beam of so many beginnings."""

    counts = ("right",)

    def __init__(self, width: int = 1) -> None:
        self.width = width

    def losses(self, outputs: Tensor, targets: Any) -> Tensor:
        """−ln p of each line, (n,); ∞ for one too narrow for its text."""
        y = torch.log_softmax(outputs, 2).transpose(0, 1)
        return F.ctc_loss(y, targets["texts"], steps_of(outputs, targets), targets["lengths"], reduction="none")

    def value(self, outputs: Tensor, targets: Any) -> Tensor:
        y = torch.log_softmax(outputs, 2).transpose(0, 1)
        steps, lengths = steps_of(outputs, targets), targets["lengths"]
        total = F.ctc_loss(y, targets["texts"], steps, lengths, reduction="sum", zero_infinity=True)
        return total / len(outputs)

    def value_and_delta(self, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
        softmax, rule = LogSoftmax(2), CTCLoss(reduction="sum", zero_infinity=True)
        y, softened = softmax.forward(outputs)
        total, saved = rule.forward(y.transpose(0, 1), targets["texts"], steps_of(outputs, targets), targets["lengths"])
        (to_y, *_), _ = rule.backward(saved, torch.ones_like(total) / len(outputs))
        assert to_y is not None
        (delta,), _ = softmax.backward(softened, to_y.transpose(0, 1))
        assert delta is not None
        return total / len(outputs), delta

    def count(self, outputs: Tensor, targets: Any) -> Sequence[Scalar]:
        texts, lengths = targets["texts"].tolist(), targets["lengths"].tolist()
        steps = steps_of(outputs, targets).tolist()
        read = (greedy(each[:step]) for each, step in zip(outputs.detach(), steps, strict=True))
        return (sum(found == text[:length] for found, text, length in zip(read, texts, lengths, strict=True)),)

    def read(self, outputs: Tensor, targets: Any) -> list[list[int]]:
        """The characters' numbers of each line."""
        steps = steps_of(outputs, targets).tolist()
        return [self.read_one(each[:step]) for each, step in zip(outputs, steps, strict=True)]

    def read_one(self, scores: Tensor) -> list[int]:
        """Of one line's scores (t, classes)."""
        if self.width == 1:
            return greedy(scores)
        return beam(torch.log_softmax(scores.float(), 1), self.width)[0]


def steps_of(outputs: Tensor, targets: Any) -> Tensor:
    """How many of the steps are each line's own, int64 (n,): its share of the batch's width."""
    found: Tensor = targets["widths"] * outputs.shape[1] // targets["width"]
    return found
