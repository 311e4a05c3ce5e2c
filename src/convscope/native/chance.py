"""What an engine's plan drops, for torch to drop the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from convscope.lowering.plan import Plan, Record

_DROPPING = (
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout,
)  # fmt: skip
_SCATTER = 6.0  # deviations by which a share may differ from the chance that it is drawn with


class OtherDropsError(Exception):
    """The model drops in another place, or in another order, than the plan."""


def drops(plan: Plan) -> list[Record]:
    """The records that draw chance, in the order in which they run."""
    return [record for record in plan.records if record.kind == "dropout"] if plan.training else []


def without_chance(plan: Plan) -> Plan:
    """The plan with nothing dropped."""
    records = (
        dataclasses.replace(each, attributes={**each.attributes, "p": 0.0}) if each.kind == "dropout" else each
        for each in plan.records
    )
    return dataclasses.replace(plan, records=tuple(records))


def factors(engine: Any, plan: Plan, images: int, seed: int, threads: int) -> list[Tensor]:
    """By what the plan multiplies each unit at each of its ``drops``: 0 or 1/(1 − p), (n, c, h, w)."""
    found = []
    for record in drops(plan):
        assert record.shape is not None
        network = engine.Network(
            input_shape=record.shape,
            records=[
                {
                    "kind": record.kind, "name": record.name, "inputs": [0], "output": record.output,
                    "attributes": dict(record.attributes), "parameters": {}, "state": {}, "trainable": True,
                }
            ],
            outputs=[record.output],
            parameter_count=0,
            state_count=0,
        )  # fmt: skip
        y = torch.empty(images, *record.shape, dtype=torch.float32, device="cpu")
        empty, ones = torch.empty(0).numpy(), torch.ones_like(y).numpy()
        network.forward(empty, empty, ones, [y.numpy()], training=True, seed=seed, step=0, threads=threads)
        found.append(y)
    return found


def is_fair(record: Record, factor: Tensor) -> bool:
    """Whether a layer's factors are 0 with the chance that it is to have, and else what keeps the mean."""
    p = float(record.attributes["p"])  # type: ignore[arg-type]
    together = record.attributes.get("together", 0)
    alone = factor if not together else factor[:, :, 0, 0] if together == 1 else factor[:, 0, 0, 0]
    kept = factor[factor != 0]
    if not torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-5):
        return False
    share = float((alone == 0).double().mean())
    return bool(abs(share - p) <= _SCATTER * (p * (1 - p) / alone.numel()) ** 0.5 + 1e-9)


class Dropping(TorchFunctionMode):
    """While entered, torch's dropout multiplies by ``factors``, one call after another; by nothing where None is given.

    Raises OtherDropsError where there are more calls than factors, or for another number of units.
    """

    def __init__(self, factors: Sequence[Tensor] | None) -> None:
        super().__init__()
        self._left: Iterator[Tensor] | None = None if factors is None else iter(factors)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in _DROPPING:
            return function(*args, **kwargs)
        x, p, training, inplace = _arguments(*args, **kwargs)
        if not training or p == 0 or p == 1:
            return function(*args, **kwargs)
        if self._left is None:
            return x if inplace else x.clone()
        factor = next(self._left, None)
        if factor is None or factor.numel() != x.numel():
            raise OtherDropsError
        factor = factor.reshape(x.shape)
        return x.mul_(factor) if inplace else x * factor


def _arguments(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, train: bool = True
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training and train, inplace
