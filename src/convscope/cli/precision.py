"""``--precision`` of the commands that answer, and the pictures on which int8 is calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convscope.data import Dataset

F = TypeVar("F", bound=Callable[..., Any])

_CALIBRATING = 256  # pictures of the training part: the ranges of LeNet-5 and of ResNets hardly grow with more


def precision_option(function: F) -> F:
    """``--precision``."""
    return click.option(
        "--precision", type=click.Choice(["float32", "bf16", "int8"]), default="float32", show_default=True,
        help="What the native engine multiplies in, where the processor has units for it.",
    )(function)  # fmt: skip


def calibration_pictures(model: nn.Module, dataset: Dataset[Any], precision: str) -> Tensor | None:
    """The first pictures of the data set's training part, as the model takes them; None where none are wanted."""
    if precision != "int8":
        return None
    from convscope.data.feed import Feed
    from convscope.data.order import Order
    from convscope.errors import ArgumentError
    from convscope.tasks import task_of

    examined = task_of(model, dataset).examine(model, dataset.train, dataset)
    count = min(_CALIBRATING, len(examined.examples))
    feed = Feed(examined.examples, Order(len(examined.examples), count), examined.stages)
    batch = next(iter(feed), None)
    if batch is None or len(batch.inputs) != 1:
        raise ArgumentError(
            "precision", precision, "bf16 or float32: int8 is for models of pictures with training data"
        )
    pictures: Tensor = batch.inputs[0]
    return pictures
