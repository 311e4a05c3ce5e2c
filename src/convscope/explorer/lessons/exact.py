"""The numbers that a lesson's answers are held against: the model in float64, also after steps of SGD."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from convscope.explorer.lessons.plan import exact_input, exact_model
from convscope.explorer.network import Network
from convscope.explorer.session import Session
from convscope.explorer.snapshot import Question, Snapshot


@dataclasses.dataclass(frozen=True)
class Lessoned:
    """Steps of SGD on ``pixels`` for ``target``, from the model's own weights."""

    pixels: bytes
    target: int | None
    loss: str
    steps: int
    rate: float
    momentum: float
    decay: float


class Exact:
    """Snapshots in float64 of one session's model. Each picture, target, loss and training is run once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._plain = Network(exact_model(session), session.network.input_shape)
        self._trained: dict[Lessoned, Network] = {}
        self._snapshots: dict[tuple[bytes, int | None, str, Lessoned | None], Snapshot] = {}

    def snapshot(self, pixels: bytes, target: int | None, loss: str, trained: Lessoned | None = None) -> Snapshot:
        """What the model says of a picture; ``target`` None: what it says itself."""
        key = (pixels, target, loss, trained)
        if key not in self._snapshots:
            self._snapshots[key] = self._look(self.network(trained), pixels, target, loss)
        return self._snapshots[key]

    def network(self, trained: Lessoned | None) -> Network:
        if trained is None or not trained.steps:
            return self._plain
        if trained not in self._trained:
            self._trained[trained] = self._train(trained)
        return self._trained[trained]

    def _look(self, network: Network, pixels: bytes, target: int | None, loss: str) -> Snapshot:
        x = exact_input(self.session, self.session.desk.from_pixels(pixels).pixels)
        found = Snapshot(network, Question(x, target, loss, guess=target is None), 0)
        found.complete()
        return found

    def _train(self, wanted: Lessoned) -> Network:
        """torch.optim.SGD on a copy, the gradients those that the page has."""
        model = exact_model(self.session)
        network = Network(model, self.session.network.input_shape)
        learned: list[tuple[str, nn.Parameter]] = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(
            [each for _, each in learned], wanted.rate, momentum=wanted.momentum, weight_decay=wanted.decay
        )
        target = wanted.target
        for _ in range(wanted.steps):
            found = self._look(network, wanted.pixels, target, wanted.loss)
            target = found.question.target  # what the network said at first stays what it learns
            gradients: dict[str, Tensor] = dict(found.gradients)
            for name, parameter in learned:
                parameter.grad = gradients[name].detach().reshape(parameter.shape) if name in gradients else None
            optimiser.step()
        return network
