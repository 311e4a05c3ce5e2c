"""How much arithmetic a plan is."""

from __future__ import annotations

import math
from typing import Any

from convscope.lowering.plan import Plan, Record, Shape


def training_operations(plan: Plan) -> int:
    """Multiplications and additions of one training step per image, in convolutions and linear layers.

    A multiply-add counts as two. Every layer works three times as much as its forward pass (output, ∂J/∂w, ∂J/∂x); the
    ∂J/∂x of layers before which nothing is trained is not computed and not counted.
    """
    shapes: dict[int, Shape] = {0: plan.input_shape}
    trains: dict[int, bool] = {0: False}  # whether something trained leads to the value
    total = 0
    for record in plan.records:
        below = any(trains[number] for number in record.inputs)
        own = bool(record.parameters) and record.trainable
        if record.output is not None and record.shape is not None:
            shapes[record.output], trains[record.output] = record.shape, below or own
        if record.inputs:
            total += 2 * _multiply_adds(record, shapes[record.inputs[0]]) * (1 + own + below)
    return total


def _multiply_adds(record: Record, source: Shape) -> int:
    if record.shape is None:
        return 0
    attributes: dict[str, Any] = dict(record.attributes)
    if record.kind == "conv2d":
        places = record.shape[1] * record.shape[2]
        area = math.prod(attributes["kernel_size"])
        if "table" in attributes:
            if record.parameters["weight"].startswith("constant."):
                return 0  # a permutation of maps; multiplying by 1 is no useful work
            return int(sum(map(len, attributes["table"])) * area * places)
        return int(record.shape[0] * source[0] // attributes["groups"] * area * places)
    if record.kind in ("linear", "rbf_units"):
        return record.shape[0] * math.prod(source)
    return 0
