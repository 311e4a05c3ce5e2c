"""The losses a model is trained with: value, sensitivity of the outputs by the rule, and scores for prediction.

Every value is the mean over the batch. Targets are class indices, int64 (n,); where a loss compares numbers,
they may be numbers of the outputs' shape. A model in training that returns ``AuxiliaryOutputs`` has the loss
loss(logits) + weight · Σ loss(auxiliary), and the sensitivities come back in the same structure.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.activations import activation_rule
from convscope.layers.outputs import AuxiliaryOutputs
from convscope.layers.subsample import Subsample2d
from convscope.rules import loss as rules
from convscope.rules.elementwise import row_of

Outputs = Tensor | AuxiliaryOutputs


class Loss(ABC):
    """One loss J(y, t). ``value`` is made of torch operations, for autograd; ``value_and_delta`` follows the rule."""

    def value(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """J as a scalar tensor."""
        if isinstance(outputs, AuxiliaryOutputs):
            auxiliary = [self._value(each, targets) for each in outputs.auxiliary]
            return self._value(outputs.logits, targets) + outputs.weight * torch.stack(auxiliary).sum()
        return self._value(outputs, targets)

    def each(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """J of every example by itself, (n,), for autograd; their mean is ``value``."""
        if isinstance(outputs, AuxiliaryOutputs):
            auxiliary = [self.each(each, targets) for each in outputs.auxiliary]
            return self.each(outputs.logits, targets) + outputs.weight * torch.stack(auxiliary).sum(0)
        return self._each(outputs, targets)

    def value_and_delta(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Outputs]:
        """(J, ∂J/∂outputs), written out without autograd."""
        if isinstance(outputs, AuxiliaryOutputs):
            value, delta = self._value_and_delta(outputs.logits, targets)
            deltas = []
            for each in outputs.auxiliary:
                added, its_delta = self._value_and_delta(each, targets)
                value = value + outputs.weight * added
                deltas.append(outputs.weight * its_delta)
            return value, AuxiliaryOutputs(delta, tuple(deltas), outputs.weight)
        return self._value_and_delta(outputs, targets)

    def predictions(self, outputs: Outputs) -> Tensor:
        """Scores (n, classes); the largest is the predicted class."""
        return outputs.logits if isinstance(outputs, AuxiliaryOutputs) else outputs

    @abstractmethod
    def _value(self, y: Tensor, targets: Tensor) -> Tensor: ...

    def _each(self, y: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([self._value(y[i : i + 1], targets[i : i + 1]) for i in range(len(y))])

    @abstractmethod
    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...


class CrossEntropy(Loss):
    """J = −ln softmax(y)_t, y the logits (n, classes).

    In float64, in which digits are asked for, it is made of what the other classes have, ln(1 + Σ_{k≠t} e^(y_k − y_t)),
    as the rule makes it: torch's own has no digits left from a gap of 37 between the logits on.
    """

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return self._each(y, targets).mean() if _exact(y) else F.cross_entropy(y, class_indices(y, targets))

    def _each(self, y: Tensor, targets: Tensor) -> Tensor:
        t = class_indices(y, targets)
        if not _exact(y):
            return F.cross_entropy(y, t, reduction="none")
        rivals = (y - y.gather(1, t[:, None])).scatter(1, t[:, None], -torch.inf).logsumexp(1)
        return torch.logaddexp(rivals, torch.zeros_like(rivals))

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.cross_entropy(y, targets)


@dataclasses.dataclass(frozen=True)
class SquaredError(Loss):
    """J = ½ ‖t − y‖² summed over the outputs (Xue 2016, eq. (4)).

    Class indices become targets of ``high`` for the class and ``low`` for the others; see ``loss_for``.
    """

    low: float = 0.0
    high: float = 1.0

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * F.mse_loss(y, self.numbers(y, targets), reduction="sum") / len(y)

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.squared_error(y, self.numbers(y, targets))

    def numbers(self, y: Tensor, targets: Tensor) -> Tensor:
        """The targets as numbers of the outputs' shape."""
        return self.low + (self.high - self.low) * one_hot(y, targets) if targets.ndim < y.ndim else targets.to(y)


@dataclasses.dataclass(frozen=True)
class MeanSquaredError(SquaredError):
    """J = mean over batch and outputs of (t − y)²."""

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(y, self.numbers(y, targets))

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.mean_squared_error(y, self.numbers(y, targets))


class BinaryCrossEntropy(Loss):
    """J = −Σ [t ln σ(y) + (1 − t) ln(1 − σ(y))] over the outputs, y before the sigmoid.

    One output column, (n, 1), decides between classes 0 and 1; with more columns each class has its own yes or no.
    """

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(y, self.numbers(y, targets), reduction="sum") / len(y)

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.binary_cross_entropy(y, self.numbers(y, targets))

    def numbers(self, y: Tensor, targets: Tensor) -> Tensor:
        """The targets as zeros and ones of the outputs' shape."""
        if targets.ndim == y.ndim:
            return targets.to(y)
        return targets.to(y).reshape(y.shape) if y.shape[1] == 1 else one_hot(y, targets)

    def predictions(self, outputs: Outputs) -> Tensor:
        y = super().predictions(outputs)
        return torch.cat((torch.zeros_like(y), y), 1) if y.shape[1] == 1 else y


class Hinge(Loss):
    """J = (1/c)·Σ_{i≠t} max(0, 1 − y_t + y_i), the output of a multi-class support vector machine."""

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(y, class_indices(y, targets))

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.hinge(y, targets)


@dataclasses.dataclass(frozen=True)
class RBFLoss(Loss):
    """J = y_t + ln(e^(−j) + Σ_i e^(−y_i)), y the squared distances to the classes' codes (LeCun et al. 1998, eq. (9)).

    The constant ``j`` stands for a rubbish class: rivals farther away than j are hardly pushed any more. The class with
    the smallest distance is the prediction.
    """

    j: float = 0.1

    def _value(self, y: Tensor, targets: Tensor) -> Tensor:
        rubbish = y.new_full((len(y), 1), -self.j)
        rivals = torch.cat((rubbish, -y), 1).logsumexp(1)
        return (y.gather(1, class_indices(y, targets)[:, None])[:, 0] + rivals).mean()

    def _value_and_delta(self, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return rules.rbf(y, targets, self.j)

    def predictions(self, outputs: Outputs) -> Tensor:
        return -super().predictions(outputs)


LOSSES: dict[str, Loss] = {
    "cross_entropy": CrossEntropy(),
    "squared_error": SquaredError(),
    "mean_squared_error": MeanSquaredError(),
    "binary_cross_entropy": BinaryCrossEntropy(),
    "hinge": Hinge(),
    "rbf": RBFLoss(),
}


def _exact(y: Tensor) -> bool:
    return y.dtype == torch.float64 and y.shape[1] > 1  # one class alone has no rivals


def loss_for(name: str | Loss, model: nn.Module | None = None) -> Loss:
    """The loss called ``name``; for squared errors the targets −1 and +1 where ``model`` ends in a tanh, else 0 and 1.

    Raises UnknownNameError for another name.
    """
    if isinstance(name, Loss):
        return name
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    loss = LOSSES[name]
    if isinstance(loss, SquaredError) and model is not None:
        low, high = output_range(model)
        return dataclasses.replace(loss, low=low, high=high)
    return loss


def output_range(model: nn.Module) -> tuple[float, float]:
    """The values a model's outputs should take for "no" and "yes": (−1, 1) when its last layer saturates below 0 (a
    tanh, for one), else (0, 1).

    The scaled tanh is 1 at 1, so ±1 are inside its range, where it still has slope.
    """
    last: nn.Module | None = None
    for module in model.modules():
        if not list(module.children()):
            last = module
    if isinstance(last, Subsample2d):
        limits = activation_rule(last.activation).limits()
    else:
        row = row_of(last)
        limits = None if row is None or last is None else row.of_module(last).limits()
    return (-1.0, 1.0) if limits is not None and limits[0] < 0 else (0.0, 1.0)


def class_indices(y: Tensor, targets: Tensor) -> Tensor:
    """``targets``, checked: int64 (n,) in 0…classes−1, else ArgumentError."""
    if y.ndim != 2 or targets.shape != y.shape[:1] or targets.is_floating_point():
        got = f"{targets.dtype} {tuple(targets.shape)} for outputs {tuple(y.shape)}"
        raise ArgumentError("targets", got, "class indices (n,) for outputs (n, classes)")
    return targets


def one_hot(y: Tensor, targets: Tensor) -> Tensor:
    """(n, classes) of 0 and 1 in the outputs' type."""
    return torch.zeros_like(y).scatter_(1, class_indices(y, targets)[:, None], 1.0)
