"""What a model's outputs say of the classes, by how the network ends."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope.layers.losses import Loss
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


def says_shares(end: Rule | None) -> bool:
    """Whether outputs (n, classes) are shares of the classes already, or their logarithms."""
    return isinstance(end, Softmax | LogSoftmax) and end.dim in (1, -1)


def bends(end: Rule | None) -> bool:
    """Whether the outputs are a function, such as a sigmoid, of what the network's last step reads, and of that alone:
    near a limit they say less of it in float32."""
    return isinstance(end, Softmax | LogSoftmax | Elementwise)


def exactly(last: Step | None, outputs: Tensor) -> Tensor:
    """The outputs in float64, from what the network's last step reads where it ``bends``: so a number near its limit
    keeps its distance from it."""
    if last is None or not bends(last.rule):
        return outputs.detach().double()
    found: Tensor = last.rule.forward(last.inputs[0].double())[0]
    return found.detach()


def probabilities(outputs: Tensor, loss: Loss, end: Rule | None) -> Tensor:
    """Outputs (n, classes) as shares of the classes that sum to 1, float64.

    A softmax at the end, or its logarithm, has said so already, and what the others leave is the largest one's, whose
    own number float32 rounds to 1; sigmoids are scaled to the sum 1, tanh from −1 … 1 to 0 … 1 before that. All other
    outputs, and scores that the loss makes of them, such as negative distances, go through a softmax.
    """
    scores = loss.predictions(outputs)
    end = end if scores is outputs else None
    found = scores.detach().double()
    if says_shares(end):
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
