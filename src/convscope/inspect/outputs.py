"""What a model's outputs say of the classes, by how the network ends."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.rules.base import Rule
from convscope.rules.elementwise import Elementwise
from convscope.rules.softmax import LogSoftmax, Softmax
from convscope.rules.tape import Step, Tape


def last_step(ran: Tape, output: Tensor) -> Step | None:
    """The step that made the model's output, None where none did."""
    for step in reversed(ran.steps):
        y = step.output
        if isinstance(y, Tensor) and y.data_ptr() == output.data_ptr() and y.shape == output.shape:
            return step
    return None


def ending(ran: Tape, output: Tensor) -> Rule | None:
    """The rule that made the model's output, None where no step did."""
    found = last_step(ran, output)
    return None if found is None else found.rule


def probabilities(scores: Tensor, end: Rule | None) -> Tensor:
    """Scores (n, classes), the largest the class said, as shares that sum to 1, float64.

    A softmax at the end, or its logarithm, has said so already, and what the others leave is the largest one's, whose
    own number float32 rounds to 1; sigmoids are scaled to the sum 1, tanh from −1 … 1 to 0 … 1 before that; all other
    outputs, logits and negative distances, go through a softmax.
    """
    found = scores.detach().double()
    if isinstance(end, Softmax | LogSoftmax):
        found = found if isinstance(end, Softmax) else found.exp()
        largest = found.argmax(1, keepdim=True)
        others = found.scatter(1, largest, 0).sum(1, keepdim=True)
        return found.scatter(1, largest, 1 - others)
    limits = end.limits() if isinstance(end, Elementwise) else None
    if limits is not None:
        low, high = limits
        found = ((found - low) / (high - low)).clamp(min=0)
        total = found.sum(1, keepdim=True)
        return torch.where(total > 0, found / total, torch.full_like(found, 1 / found.shape[1]))
    return found.softmax(dim=1)
