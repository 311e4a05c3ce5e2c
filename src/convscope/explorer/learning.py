"""Learning from the user's own pictures while the page looks on: minibatches in a seeded order, saved at any time.

Unlike the step on the one picture shown, the model is in training mode (dropout on, batch normalisation by the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.data import Labelled, prepare
from convscope.errors import ArgumentError
from convscope.explorer.inputs import Desk
from convscope.explorer.stepping import Stepper
from convscope.inspect.attribution.subject import first_tensor
from convscope.layers.losses import loss_for

KEPT = 2000  # steps whose loss is kept for the curve
SEED = 0


class Learner:
    """Where the learning stands: the order of this epoch, the place in it, the loss of every step so far."""

    def __init__(self, model: nn.Module, desk: Desk, stepper: Stepper) -> None:
        self.model, self.desk, self.stepper = model, desk, stepper
        self.begin()

    def begin(self) -> None:
        """Before the first step."""
        self.epoch, self.place, self.seen = 0, 0, 0
        self.losses: list[float] = []
        self.right: list[float] = []
        self.items: list[int] = []

    def step(self, loss: str, batch: int) -> None:
        """One minibatch, and a step of the page's SGD on its mean loss.

        Raises ArgumentError where data and model do not fit.
        """
        chosen = self._fitting()
        rows = self._next(len(chosen), batch)
        x, labels = self._batch(chosen, rows)
        parameters = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.stepper.remember()
        self.model.train()
        try:
            with torch.enable_grad():
                output = self.model(x)
                objective = loss_for(loss, self.model)
                value = objective.value(output, labels)
                found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        finally:
            self.model.eval()
        gradients = {name: each for name, each in zip(parameters, found, strict=True) if each is not None}
        self.stepper.step(gradients)
        said = objective.predictions(first_tensor(output)).detach().argmax(1)
        self.items = rows.tolist()
        self.seen += len(rows)
        self.losses = [*self.losses[1 - KEPT :], float(value.detach())]
        self.right = [*self.right[1 - KEPT :], float((said == labels).double().mean())]

    def describe(self) -> dict[str, object]:
        return {
            "epoch": self.epoch, "seen": self.seen, "losses": self.losses, "items": self.items,
            "right": self.right[-1] if self.right else None,
        }  # fmt: skip

    def _fitting(self) -> Labelled:
        chosen = self.desk.split("train")
        with torch.no_grad():
            example, _ = self._batch(chosen, torch.zeros(1, dtype=torch.long))
            scores = first_tensor(self.model(example))
        if scores.ndim != 2 or scores.shape[1] != len(chosen.classes):
            raise ArgumentError(
                "data", f"{len(chosen.classes)} classes", f"{scores[0].numel()}, as many as the model answers"
            )
        return chosen

    def _next(self, count: int, batch: int) -> Tensor:
        """The next rows of this epoch's order; the last batch of an epoch may be smaller."""
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED + self.epoch))
        rows = order[self.place : self.place + batch]
        self.place += len(rows)
        if self.place >= count:
            self.epoch, self.place = self.epoch + 1, 0
        return rows

    def _batch(self, chosen: Labelled, rows: Tensor) -> tuple[Tensor, Tensor]:
        some = chosen.select(rows)
        pixels = prepare(some.images.cpu(), self.desk.preprocessing)
        x = self.desk.preprocessing.normalise(pixels).reshape(len(rows), *self.desk.input_shape)
        return x, some.labels.cpu().long()
