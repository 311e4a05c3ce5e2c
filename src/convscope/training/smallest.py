"""A batch of one, met before training instead of at the end of its first epoch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convscope.data.feed import Feed
from convscope.data.order import Order
from convscope.errors import ArgumentError
from convscope.graph.training_modes import kept_modes
from convscope.training.task import Prepared, model_inputs

# How torch says that a channel of one number has no variance.
_SIGN = "more than 1 value per channel"


def try_smallest_batch(model: nn.Module, prepared: Prepared, order: Order, shared: bool = False) -> None:
    """Batch normalisation has no statistics over one picture of 1×1 maps. Where the epoch's smallest batch, or a
    process's share of it, is of one example, the model is tried on one; it is left as it was. ``shared``:
    statistics are those of the whole batch, whatever the shares.

    Raises ArgumentError that names batch sizes which leave none.
    """
    first = next(model.parameters(), None)
    norm = any(isinstance(each, _BatchNorm) for each in model.modules())
    if (
        first is None
        or not norm
        or order.batch_size is None
        or min(order.size(index) for index in range(order.count)) // (1 if shared else order.world) > 1
    ):
        return
    one = prepared.train.select(torch.zeros(1, dtype=torch.int64))
    batch = next(iter(Feed(one, Order(1, 1, shuffle=False), prepared.test_stages, first.device)))
    kept = {name: each.clone() for name, each in model.named_buffers()}
    try:
        with torch.random.fork_rng(), torch.no_grad(), kept_modes(model):
            model.train()(*model_inputs(prepared.inputs, batch.inputs, first.dtype))
    except (RuntimeError, ValueError) as problem:
        if _SIGN not in str(problem):
            return  # whatever it is, it is no matter of the batch's size
        assert order.batch_size is not None
        found = _better_sizes(order.examples, order.batch_size, 1 if shared else order.world)
        hint = f"batch_size={' or '.join(map(str, found))} leaves none" if found else ""
        wanted = (
            f"a size that leaves no batch of one (there are {order.examples} to train on): the model normalises "
            "batches on 1×1 maps, where a single example has no variance"
        )
        raise ArgumentError("batch_size", order.batch_size, wanted, hint) from problem
    finally:
        with torch.no_grad():
            for name, each in model.named_buffers():
                each.copy_(kept[name])


def _better_sizes(examples: int, batch_size: int, world: int) -> list[int]:
    """The nearest size below and the nearest above whose smallest share is of two examples or more."""

    def good(size: int) -> bool:
        rest = examples % size
        return min(size, examples) // world > 1 and (rest == 0 or rest // world > 1)

    below = next((size for size in range(batch_size - 1, 1, -1) if good(size)), None)
    above = next((size for size in range(batch_size + 1, 2 * examples) if good(size)), None)
    return [size for size in (below, above) if size is not None]
