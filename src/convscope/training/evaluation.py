"""How good a model is on examples that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Task


def evaluate_examples(
    task: Task,
    model: nn.Module,
    examined: Examined,
    batch_size: int,
    objective: Objective,
    outputs_of: Callable[[Sequence[Tensor]], Any],
) -> Figures:
    """The task's figures on these examples. The model runs in evaluation mode where its parameters are, and is left in
    the mode it had. ``outputs_of`` takes a batch's inputs; batches are of ``batch_size`` examples, or fewer where
    the task says so."""
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    training = model.training
    model.eval()
    try:
        tally = task.tally(model, examined.examples, objective)
        order = Order(len(examined.examples), min(batch_size, task.most_at_a_time), shuffle=False)
        with torch.inference_mode():
            for batch in Feed(examined.examples, order, examined.stages, device):
                tally.add(outputs_of(batch.inputs), batch)
    finally:
        model.train(training)
    return tally.figures()
