"""Losses as the engine knows them, and targets in the form that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import nn

from convscope.errors import ArgumentError, LoweringError
from convscope.layers.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Hinge,
    Loss,
    MeanSquaredError,
    RBFLoss,
    SquaredError,
    loss_for,
)


@dataclasses.dataclass(frozen=True)
class Objective:
    """``kind`` and ``attributes`` are the engine's. ``numbers`` is the loss that turns class indices into target
    numbers, None where the engine takes indices. ``per_output``: divide ``scale`` by the number of outputs."""

    kind: str
    attributes: Mapping[str, float]
    loss: Loss
    numbers: SquaredError | BinaryCrossEntropy | None = None
    per_output: bool = False

    def attributes_for(self, outputs: int) -> dict[str, float]:
        """The attributes of a loss on ``outputs`` numbers an image."""
        given = dict(self.attributes)
        if self.per_output:
            given["scale"] /= outputs
        return given

    def targets(self, targets: torch.Tensor, outputs: int) -> torch.Tensor:
        """Class indices (n,) or numbers (n, outputs) as the engine takes them; ArgumentError for another shape."""
        if self.numbers is None:
            if targets.ndim != 1 or targets.dtype != torch.int64:
                got = f"{targets.dtype} {tuple(targets.shape)}"
                raise ArgumentError("targets", got, "class indices, torch.int64 (n,)")
            return targets
        like = torch.empty(len(targets), outputs)
        if targets.ndim == 1 and (outputs > 1 or not isinstance(self.numbers, BinaryCrossEntropy)):
            if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < outputs:
                got = f"{int(targets.min())}…{int(targets.max())}"
                raise ArgumentError("targets", got, f"class indices in 0…{outputs - 1}")
        elif targets.ndim != 1 and targets.shape != like.shape:
            raise ArgumentError("targets", tuple(targets.shape), f"the outputs' shape, {tuple(like.shape)}")
        return self.numbers.numbers(like, targets).contiguous()


def objective(loss: str | Loss | nn.Module | Objective, model: nn.Module) -> Objective:
    """The engine's form of a loss: a name in ``LOSSES``, a ``Loss``, or torch's module for one of them.

    Raises UnknownNameError for an unknown name and LoweringError for a loss that the engine does not have.
    """
    if isinstance(loss, Objective):
        return loss
    if isinstance(loss, nn.Module):
        return _of_module(loss)
    found = loss_for(loss, model)
    kind = type(found)
    if kind is CrossEntropy:
        return Objective("cross_entropy", {}, found)
    if kind is Hinge:
        return Objective("hinge", {}, found)
    if isinstance(found, RBFLoss) and kind is RBFLoss:
        return Objective("rbf_loss", {"j": found.j}, found)
    if isinstance(found, BinaryCrossEntropy) and kind is BinaryCrossEntropy:
        return Objective("binary_cross_entropy", {}, found, found)
    if isinstance(found, MeanSquaredError) and kind is MeanSquaredError:
        return Objective("squared_error", {"scale": 1.0}, found, found, per_output=True)
    if isinstance(found, SquaredError) and kind is SquaredError:
        return Objective("squared_error", {"scale": 0.5}, found, found)
    raise LoweringError("loss", f"the engine has no {kind.__name__}")


def _of_module(loss: nn.Module) -> Objective:
    if getattr(loss, "reduction", "mean") != "mean":
        raise LoweringError("loss", f"reduction={loss.reduction!r}, the engine takes the mean over the batch only")
    if getattr(loss, "weight", None) is not None or getattr(loss, "pos_weight", None) is not None:
        raise LoweringError("loss", "has weights for the classes, the engine weighs all alike")
    if type(loss) is nn.CrossEntropyLoss:
        if loss.ignore_index >= 0:
            raise LoweringError("loss", f"ignore_index={loss.ignore_index}, the engine counts every image")
        return Objective("cross_entropy", {"label_smoothing": float(loss.label_smoothing)}, CrossEntropy())
    if type(loss) is nn.MultiMarginLoss and loss.p == 1:
        return Objective("hinge", {"margin": float(loss.margin)}, Hinge())
    if type(loss) is nn.MSELoss:
        return Objective("squared_error", {"scale": 1.0}, MeanSquaredError(), MeanSquaredError(), per_output=True)
    raise LoweringError("loss", f"the engine has no {type(loss).__name__}")
