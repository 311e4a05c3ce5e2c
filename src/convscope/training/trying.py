"""Model and data tried together on two examples, before a run writes anything: what ``Task.ready`` is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.examples import Batch
from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.errors import ArgumentError
from convscope.graph.training_modes import looking
from convscope.training.task import Prepared, model_inputs

_USUAL = (RuntimeError, ValueError, TypeError, IndexError)


def two_examples(prepared: Prepared, device: torch.device) -> Batch:
    """The first two training examples as the stages of evaluation leave them."""
    count = len(prepared.train)
    some = prepared.train.select(torch.arange(min(2, count)))
    return next(iter(Feed(some, Order(len(some), 2, shuffle=False), prepared.test_stages, device)))


def two_inputs(model: nn.Module, prepared: Prepared) -> tuple[Batch, tuple[Tensor, ...]]:
    """The same and, beside it, its inputs as the model takes them; ArgumentError for a model without parameters."""
    first = next(model.parameters(), None)
    if first is None:
        raise ArgumentError("model", type(model).__name__, "a model with at least one parameter that is trained")
    batch = two_examples(prepared, first.device)
    return batch, model_inputs(prepared.inputs, batch.inputs, first.dtype)


def tried(
    model: nn.Module,
    call: Callable[[], Any],
    argument: str,
    got: Any,
    wanted: str,
    problems: tuple[type[Exception], ...] = _USUAL,
) -> Any:
    """What ``call`` answers without gradients while the model is in evaluation mode. For its ``problems`` ArgumentError
    that names ``argument``, what it ``got`` and what was ``wanted``."""
    try:
        with torch.no_grad(), looking(model):
            return call()
    except problems as problem:
        raise ArgumentError(argument, got, wanted, str(problem).split("\n")[0]) from problem
